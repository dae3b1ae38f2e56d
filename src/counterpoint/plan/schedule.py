"""Schedules: pure functions from a graph of stages to the ordered actions of every rank.

A builder is a policy of the list scheduler, which works on a clock of unit costs. It makes one global order, of which
every program is a subsequence; the checker does not rely on that, it proves the programs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from counterpoint.plan.action import Action, Compute, Reduce, Work
from counterpoint.plan.filling import fill
from counterpoint.plan.graph import Node
from counterpoint.plan.list_scheduler import Policy, list_schedule, places
from counterpoint.plan.stages import EncoderOrder, Stages, is_on
from counterpoint.plan.step_order import kept
from counterpoint.plan.step_tasks import seats_of
from counterpoint.plan.tasks import Limits
from counterpoint.registry import Registry


@dataclass(frozen=True, slots=True)
class Schedule:
    """A template: the actions of one step in one global order, and each rank's program, a subsequence of it.

    `bounds` are the most microbatches that each node keeps at once: from a forward to the last action of its backward
    or, without a backward, to the forwards that read its rows.
    """

    kind: str
    order: tuple[Action, ...]
    programs: dict[int, tuple[Action, ...]]
    bounds: Mapping[Node, int] = field(default_factory=dict)

    @property
    def reducing(self) -> frozenset[Action]:
        """The backwards right before their node's reduction on all ranks: the reduction may begin inside them."""
        pairs = zip(self.order, self.order[1:])
        return frozenset(
            action
            for action, following in pairs
            if isinstance(action, Compute) and action.work is Work.BACKWARD and following == Reduce(action.node)
        )

    def keep(self, keeps: Callable[[Action], bool]) -> "Schedule":
        """The schedule without the actions that `keeps` rejects: erasing matched events."""
        order = tuple(action for action in self.order if keeps(action))
        kept = frozenset(order)
        left = {id(program): tuple(filter(kept.__contains__, program)) for program in distinct(self.programs)}
        programs = {rank: left[id(program)] for rank, program in self.programs.items()}
        return Schedule(self.kind, order, programs, self.bounds)


def distinct(programs: Mapping[int, tuple[Action, ...]]) -> Iterable[tuple[Action, ...]]:
    """Each program once that ranks share as one object, in the order of their ranks."""
    return {id(program): program for program in programs.values()}.values()


def distribute(
    kind: str,
    microbatches: int,
    order: tuple[Action, ...],
    stages: Stages,
    bounds: Mapping[Node, int] | None = None,
) -> Schedule:
    """A schedule from a global order: every rank gets the actions that it takes part in, in that order; ranks of the
    same nodes share one program.

    Without `bounds` a node may keep all of its microbatches.
    """
    programs: dict[int, tuple[Action, ...]] = {}
    for nodes, ranks in stages.by_nodes.items():
        own = frozenset(nodes)
        program = tuple(action for action in order if is_on(action, own))
        programs |= dict.fromkeys(ranks, program)
    most = {node: stages.count(node.module, microbatches) for node in stages.nodes} if bounds is None else bounds
    return Schedule(kind, order, {rank: programs[rank] for rank in stages.world}, most)


def gpipe(stages: Stages, microbatches: int) -> Schedule:
    """All forwards, then all backwards (Huang et al. 2019, arXiv:1811.06965)."""
    return _by_policy("gpipe", stages, microbatches, Policy(_everything, backward_after_all_forwards=True))


def one_forward_one_backward(stages: Stages, microbatches: int) -> Schedule:
    """1F1B (Narayanan et al. 2021, arXiv:2104.04473), a node's microbatches in flight bounded by its depth.

    On a chain of stages this is the usual schedule; the bound is what extends it to any graph and placement.
    """
    return _by_policy("1f1b", stages, microbatches, Policy(_by_depth))


def interleaved(stages: Stages, microbatches: int) -> Schedule:
    """1F1B over the chunks of each rank, in rounds of as many microbatches as ranks (Narayanan et al. 2021)."""
    return _by_policy("interleaved", stages, microbatches, Policy(_by_depth, _by_warm_up))


def zero_bubble(stages: Stages, microbatches: int) -> Schedule:
    """Weight gradients computed apart, in the gaps (Qi et al. 2023, arXiv:2401.10241, ZB-H1).

    No rank keeps more microbatches than the fullest one of 1F1B, or of an interleaved pipeline.
    """
    return _by_policy("zero_bubble", stages, microbatches, Policy(_by_depth, _by_warm_up, _by_fullest, splits=True))


def filled(stages: Stages, microbatches: int) -> Schedule:
    """1F1B with encoders' work in the gaps of the pipeline, under its memory bound; never longer on the stages' clock.

    The language model keeps as many microbatches as in 1F1B, or as interleaved, an encoder at most `buffer`.
    """
    waves = [Policy(_by_depth)]
    if any(count > 1 for count in stages.chunks.values()):
        waves.append(Policy(_by_depth, _by_warm_up))
    encoders: list[EncoderOrder] = ["just_in_time", "fill"]
    if stages.buffer is None:
        encoders.insert(0, "first")
    known = [
        list_schedule(replace(stages, encoder=encoder), microbatches, policy).actions
        for policy in waves
        for encoder in (encoders if len(stages.sinks) < len({node.module for node in stages.nodes}) else encoders[:1])
    ]
    limits = limits_of(stages, microbatches)
    order = fill(stages, microbatches, (_tighter(stages, limits), limits), known)
    return distribute("filled", microbatches, order, stages, kept(stages, microbatches, order))


def forward_only(stages: Stages, microbatches: int) -> Schedule:
    """Evaluation: forwards only; a node runs ahead of its consumers by at most its depth."""
    return _by_policy("forward", stages, microbatches, Policy(_by_depth, trains=False))


Builder = Callable[[Stages, int], Schedule]
"""Makes a schedule of a number of microbatches, most easily with `distribute`."""


@dataclass(frozen=True, slots=True)
class ScheduleKind:
    """A kind of schedules: what builds it, and what a config may say beside its name.

    With `has_bounds` a config's `buffer` may bound an encoder's microbatches; without, all are kept. A kind that
    `needs_chunks` is for modules with chunks, one that `places_encoders` decides itself when they run, one that
    `splits` computes weight gradients apart. A config can choose only kinds that train (`trains`).
    """

    build: Builder
    has_bounds: bool = True
    splits: bool = False
    needs_chunks: bool = False
    places_encoders: bool = False
    trains: bool = True


SCHEDULES = Registry[ScheduleKind](
    "schedule",
    {
        "gpipe": ScheduleKind(gpipe, has_bounds=False),
        "1f1b": ScheduleKind(one_forward_one_backward),
        "interleaved": ScheduleKind(interleaved, needs_chunks=True),
        "zero_bubble": ScheduleKind(zero_bubble, splits=True),
        "filled": ScheduleKind(filled, places_encoders=True),
        "forward": ScheduleKind(forward_only, trains=False),
    },
)


def register_schedule(name: str, builder: Builder) -> None:
    """Let configs say `schedule.kind: name`; raises ConfigError for a name that is taken or is no name.

    Every process that plans must register it: call it where the script that trains is imported.
    """
    SCHEDULES.register(name, ScheduleKind(builder))


def _by_policy(kind: str, stages: Stages, microbatches: int, policy: Policy) -> Schedule:
    order = list_schedule(stages, microbatches, policy)
    return distribute(kind, microbatches, order.actions, stages, order.bounds)


def _everything(stages: Stages, node: Node, microbatches: int) -> int:
    return stages.count(node.module, microbatches)


def _by_depth(stages: Stages, node: Node, microbatches: int) -> int:
    """As many as there are stages to the loss; an encoder as its config says."""
    group = stages.group(node.module)
    depth = stages.depth(node) if group == 1 else -(-stages.depth(node) // group) + 1
    if node.module in stages.sinks:
        return depth
    if stages.encoder == "first":
        return _everything(stages, node, microbatches)
    ahead = depth + 1 if stages.encoder == "fill" else depth
    return ahead if stages.buffer is None else stages.buffer


def limits_of(stages: Stages, microbatches: int) -> Limits:
    """The memory bound of `filled`: that of 1F1B for the sink, of chunks together, and `buffer` for encoders."""
    buffer = stages.buffer
    # An encoder that runs first may keep all of its microbatches.
    stages = replace(stages, encoder="first" if buffer is None else "just_in_time")
    nodes = {node: _by_depth(stages, node, microbatches) for node in stages.nodes}
    seats = {seat[0]: _by_warm_up(stages, seat[0], microbatches) for seat in seats_of(stages)}
    return Limits(nodes, {first: most for first, most in seats.items() if most is not None})


def _tighter(stages: Stages, limits: Limits) -> Limits:
    """Encoders keep twice the stages to the loss at most: longer queues rarely make a step shorter."""
    nodes = {
        node: most if node.module in stages.sinks else min(most, 2 * (stages.depth(node) - 1))
        for node, most in limits.nodes.items()
    }
    return Limits(nodes, limits.seats)


def _by_fullest(stages: Stages, node: Node, microbatches: int) -> int:
    """The bound of the first place of a node's pipeline, whose gradients come last."""
    first = next(other for other in stages.nodes if other.module == node.module)
    warm_up = _by_warm_up(stages, first, microbatches)
    return _by_depth(stages, first, microbatches) if warm_up is None else warm_up


def _by_warm_up(stages: Stages, node: Node, microbatches: int) -> int | None:
    """The forwards that fill an interleaved pipeline, counted over all chunks, plus one; None without chunks.

    For an encoder: all, or as many as its config says.
    """
    chunks, pipeline = stages.chunks.get(node.module, 1), places(stages, node.module)
    if chunks == 1:
        return None
    if node.module not in stages.sinks:
        if stages.encoder == "first":
            return chunks * _everything(stages, node, microbatches)
        if stages.buffer is not None:
            return chunks * stages.buffer
    place = node.stage % pipeline
    beyond = (link.target for other in stages.nodes if other.module == node.module for link in stages.outgoing(other))
    stages_after = max((stages.depth(target) for target in beyond if target.module != node.module), default=0)
    return 2 * (pipeline - place - 1) + (chunks - 1) * pipeline + 1 + chunks * stages_after
