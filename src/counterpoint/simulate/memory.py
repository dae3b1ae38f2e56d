"""Bytes of a rank over a step: what it stores, and what comes and goes as it walks through its program.

Within one rank memory follows the order of its program, so no clock is needed for the peak.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.simulate.sizes import BYTES, NO_ROWS, Held, NodeSizes, Rows, held, node_sizes

ALLOCATOR_SHARE = 0.06
"""Bytes that torch's allocator reserves beyond those that tensors take, as a share of them: rounding and gaps. Assumed;
a step in which all shapes repeat stays below it."""

CONTEXT_BYTES = 2**30
"""CUDA's context, libraries and NCCL's buffers on a GPU, outside the allocator. Assumed."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes of tensors on one rank at the peak of a step, by kind, and the action `at` which it is reached.

    Parameters include what layers multiply with where FSDP leaves that alone; `gathered_bytes` are parameters between
    FSDP's all-gather and their release, `activation_bytes` wait for backward or for a transfer, `working_bytes` are
    what an action needs while it runs.
    """

    parameter_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    gathered_bytes: int = 0
    activation_bytes: int = 0
    working_bytes: int = 0
    at: str = ""

    @property
    def static_bytes(self) -> int:
        """What stays between steps."""
        return self.parameter_bytes + self.optimizer_bytes

    @property
    def total_bytes(self) -> int:
        """All tensors at the peak."""
        moving = self.gradient_bytes + self.gathered_bytes + self.activation_bytes + self.working_bytes
        return self.static_bytes + moving

    @property
    def allocator_bytes(self) -> int:
        """What a GPU needs beside the tensors: the allocator's share, and the context; assumed, not computed."""
        return ceil(self.total_bytes * ALLOCATOR_SHARE) + CONTEXT_BYTES


def memory(
    plan: Plan, rows: Mapping[str, Sequence[Rows]], programs: Mapping[int, tuple[Action, ...]]
) -> dict[int, RankMemory]:
    """The peak of every rank of programs; ranks with the same stages have the same program and need the same."""
    stages: dict[int, list[Node]] = {}
    for node, ranks in plan.stages.ranks.items():
        for rank in ranks:
            stages.setdefault(rank, []).append(node)
    known: dict[tuple[Node, ...], RankMemory] = {}
    found: dict[int, RankMemory] = {}
    for rank, program in programs.items():
        nodes = tuple(stages[rank])
        if nodes not in known:
            known[nodes] = footprint(plan, rank, rows, program)
        found[rank] = known[nodes]
    return found


def footprint(plan: Plan, rank: int, rows: Mapping[str, Sequence[Rows]], program: tuple[Action, ...]) -> RankMemory:
    """The peak of one rank that walks through a program; `rows` are those of each module's microbatches."""
    return max(timeline(plan, rank, rows, program), key=lambda used: used.total_bytes)


def timeline(
    plan: Plan, rank: int, rows: Mapping[str, Sequence[Rows]], program: tuple[Action, ...]
) -> Iterator[RankMemory]:
    """The most that each action of a program needs, in order."""
    walk = _Walk(plan, rank, rows, program)
    return (walk.run(action) for action in program)


@dataclass(slots=True)
class _Stage:
    """What a rank has of a stage within a step, by part: bytes that are `gathered`, of `gradients` that FSDP has not
    summed yet, of its `sums`, and of the gradients of experts that it leaves alone (`whole`); `travelling` are those of
    the buffer that it sums."""

    sizes: NodeSizes
    layout: Layout
    gathered: list[int]
    gradients: list[int]
    sums: list[int]
    whole: list[int]
    travelling: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether FSDP's mesh is this rank; experts have a mesh of their own."""
        return self.layout.dp * self.layout.cp == 1

    @property
    def experts_are_alone(self) -> bool:
        """Whether that of experts is."""
        return self.layout.edp == 1


class _Moving(NamedTuple):
    """Bytes that come and go: of gradients, of what is gathered, of activations, and of what an action works with."""

    gradients: int
    gathered: int
    activations: int
    working: int


class _Walk:
    """One rank's walk through its program; `_note` remembers the most that the action at hand needs."""

    def __init__(self, plan: Plan, rank: int, rows: Mapping[str, Sequence[Rows]], program: tuple[Action, ...]) -> None:
        self._plan, self._rows = plan, rows
        self._computed, self._stored, self._reduced = (BYTES[one] for one in (plan.dtype, plan.stored, plan.reduced))
        self._stages = {node: _stage(plan, node) for node in plan.nodes_of(rank)}
        self._live, self._reducing = frozenset(program), _reducing(program)
        self._waiting: dict[tuple[Node, int], int] = {}
        self._moving: dict[Transfer, int] = {}
        copies = self._computed * (self._stored != self._computed)
        parts = [
            (part, moments)
            for stage in self._stages.values()
            for part, moments in zip(stage.sizes.parts, stage.sizes.moments, strict=True)
        ]
        self._parameters = sum(part.shard * self._stored + part.whole * copies for part, _moments in parts)
        self._optimizer = ceil(sum(part.shard * part.trained * moments * self._stored for part, moments in parts))
        self._activations = self._gathered = self._gradients = 0
        self._peak = self._now(0)

    def run(self, action: Action) -> RankMemory:
        """The most that an action needs, from what is there before it to what it leaves."""
        self._peak = self._now(0)
        match action:
            case Compute(work=Work.FORWARD):
                self._forward(action)
            case Compute(work=Work.WEIGHT):
                self._weights(action)
            case Compute():
                self._backward(action)
            case Transfer():
                self._post(action)
            case Reduce(node=node):
                self._reduce(self._stages[node])
            case Step():
                self._update()
        self._note(0)
        return RankMemory(self._parameters, self._peak.gradients, self._optimizer, *self._peak[1:], at=str(action))

    def _now(self, working: int) -> _Moving:
        return _Moving(self._gradients, self._gathered, self._activations, working)

    def _note(self, working: int) -> None:
        now = self._now(working)
        if sum(now) > sum(self._peak):
            self._peak = now

    def _forward(self, action: Compute) -> None:
        stage, parts = self._stages[action.node], self._held(action)
        halves = (replace(action, work=work, ahead=0) for work in (Work.BACKWARD, Work.INPUT))
        keeps, waiting = any(half in self._live for half in halves), 0
        for first, stop in stage.sizes.units:
            self._gather(stage, range(first, stop))
            for part in parts[first:stop]:
                self._activations += part.kept * keeps
                waiting += part.kept * keeps
                # Without a backward the same tensors are there while the part runs.
                self._note(part.forward + part.full - part.kept * keeps)
            self._release(stage, range(first, stop))
        for transfer in self._plan.stages.reads(action, self._plan.microbatches):
            received = self._consume(transfer)
            # The rows of a hop are the input of a layer, which counts them; features wait for backward.
            is_feature = keeps and not transfer.link.is_hop
            self._activations += received * is_feature
            waiting += received * is_feature
        leaving = self._output_bytes(action)
        self._note(leaving)
        self._activations += leaving * keeps
        self._waiting[action.node, action.microbatch] = waiting + leaving * keeps

    def _backward(self, action: Compute) -> None:
        stage, parts = self._stages[action.node], self._held(action)
        is_split = replace(action, work=Work.WEIGHT) in self._live
        waiting = self._waiting.pop((action.node, action.microbatch), 0)
        deferred = 0
        for transfer in self._plan.stages.reads(action, self._plan.microbatches):
            self._consume(transfer)
        for first, stop in reversed(stage.sizes.units):
            unit = range(first, stop)
            self._gather(stage, unit)
            made = 0
            for number in reversed(unit):
                part = parts[number]
                made += 0 if is_split else self._made(stage, number)
                self._note(part.full - part.kept + part.backward + made)
                self._activations += (part.deferred if is_split else 0) - part.kept
                deferred += part.deferred if is_split else 0
                waiting -= part.kept
            if not is_split:
                self._accumulate(stage, unit, is_last=action in self._reducing)
            if action in self._reducing:
                self._sum(stage, unit)
            self._release(stage, unit)
        self._activations -= waiting
        if is_split:
            self._waiting[action.node, action.microbatch] = deferred

    def _weights(self, action: Compute) -> None:
        stage = self._stages[action.node]
        for number in reversed(range(len(stage.sizes.parts))):
            self._note(self._made(stage, number))
            self._accumulate(stage, range(number, number + 1), is_last=False)
        self._activations -= self._waiting.pop((action.node, action.microbatch), 0)

    def _reduce(self, stage: _Stage) -> None:
        for first, stop in reversed(stage.sizes.units):
            self._sum(stage, range(first, stop))
        self._drop(stage, range(len(stage.gathered)))

    def _update(self) -> None:
        """Afterwards gradients are dropped, and frozen stages are no longer gathered."""
        for stage in self._stages.values():
            self._drop(stage, range(len(stage.gathered)))
            stage.gradients[:] = stage.sums[:] = stage.whole[:] = [0] * len(stage.sums)
            stage.travelling = 0
        self._gradients = 0

    def _gather(self, stage: _Stage, unit: range) -> None:
        """FSDP makes the parameters of a unit whole; the buffer in which they arrive is freed after that."""
        arriving = 0
        for number in unit:
            if not stage.gathered[number]:
                arriving += stage.sizes.parts[number].gathered * self._computed
                stage.gathered[number] = stage.sizes.parts[number].gathered * self._computed
        self._note(2 * arriving)
        self._gathered += arriving

    def _release(self, stage: _Stage, unit: range) -> None:
        if stage.layout.reshard:
            self._drop(stage, unit)

    def _drop(self, stage: _Stage, unit: range) -> None:
        for number in unit:
            self._gathered -= stage.gathered[number]
            stage.gathered[number] = 0

    def _made(self, stage: _Stage, number: int) -> int:
        """Bytes of a part's gradients as backward makes them."""
        part = stage.sizes.parts[number]
        return ceil(part.elements * part.trained) * self._computed

    def _accumulate(self, stage: _Stage, unit: range, *, is_last: bool) -> None:
        """Gradients of a unit join those of earlier microbatches, in the dtype of reduction. The only ones of a step
        stay as they were made: FSDP sums them next (`is_last`), and leaves the experts' alone.
        """
        for number in unit:
            part = stage.sizes.parts[number]
            for kept, size, stays in ((stage.gradients, part.gathered, is_last), (stage.whole, part.whole, True)):
                each = self._computed if stays and not kept[number] else self._reduced
                wanted = max(kept[number], ceil(size * part.trained) * each)
                self._gradients += wanted - kept[number]
                kept[number] = wanted
        if not is_last and self._computed != self._reduced:
            # Tensor by tensor, so that few are there in both dtypes at once.
            self._note(max(self._made(stage, number) for number in unit))

    def _sum(self, stage: _Stage, unit: range) -> None:
        """FSDP reshards a unit, copies its gradients into a buffer and sums that over the mesh; only the shards stay.

        It keeps the buffer until it needs the next one. On a mesh of one rank the buffer holds the sums.
        """
        self._drop(stage, unit)
        copied = summed = at_once = 0
        for number in unit:
            part = stage.sizes.parts[number]
            if not stage.gradients[number] or stage.sums[number]:
                continue
            for size, is_alone in (
                (part.dense, stage.is_alone),
                (part.routed - part.whole, stage.experts_are_alone),
            ):
                trained = ceil(size * part.trained)
                copied += trained * self._reduced * (not is_alone)
                at_once += trained * self._stored * is_alone
            stage.sums[number] = ceil((part.shard - part.whole) * part.trained) * self._stored
            summed += stage.sums[number]
        if not summed:
            return
        self._gradients += copied + at_once - stage.travelling
        self._note(0)
        for number in unit:
            self._gradients -= stage.gradients[number]
            stage.gradients[number] = 0
        stage.travelling = copied
        self._gradients += max(0, summed - at_once)
        self._note(0)

    def _held(self, action: Compute) -> tuple[Held, ...]:
        return held(self._plan, action.node, self._rows_of(action.node.module, action.microbatch))

    def _rows_of(self, module: str, microbatch: int) -> Rows:
        of_module = self._rows.get(module, ())
        return of_module[microbatch] if microbatch < len(of_module) else NO_ROWS

    def _output_bytes(self, action: Compute) -> int:
        """Bytes of what a forward returns to other stages, by port."""
        rows, layout = self._rows_of(action.node.module, action.microbatch), self._plan.layouts[action.node.module]
        ports = {link.port: link for link in self._plan.stages.outgoing(action.node)}
        return (
            sum(
                ceil((rows.enter if link.is_hop else rows.leave) / layout.lane_size) * self._plan.width(link)
                for link in ports.values()
            )
            * self._computed
        )

    def _post(self, action: Transfer) -> None:
        """A rank that receives has the memory from the moment of posting."""
        link, forward = action.link, action.direction is Direction.FORWARD
        end = link.target if forward else link.source
        if end not in self._stages:
            return
        stages = self._plan.stages
        source = self._rows_of(link.source.module, stages.source_microbatch(link, action.exchange))
        layout = self._plan.layouts[end.module]
        if link.is_hop or not forward:
            own = (source.enter if link.is_hop else source.leave) / layout.lane_size
        else:
            own = source.all_out / len(stages.ranks[end])
        share = stages.grain(link) / stages.group(link.source.module)
        size = ceil(own * share) * self._plan.width(link) * self._computed
        self._moving[action] = size
        self._activations += size

    def _consume(self, transfer: Transfer) -> int:
        """Free what was received; returns its bytes."""
        size = self._moving.pop(transfer, 0)
        self._activations -= size
        return size


def _stage(plan: Plan, node: Node) -> _Stage:
    sizes = node_sizes(plan, node)
    gathered, gradients, sums, whole = ([0] * len(sizes.parts) for _kind in range(4))
    return _Stage(sizes, plan.layouts[node.module], gathered, gradients, sums, whole)


def _reducing(program: tuple[Action, ...]) -> frozenset[Action]:
    """The backwards of a rank that reduce as they go: those right before their stage's reduction."""
    return frozenset(
        action
        for action, following in pairwise(program)
        if isinstance(action, Compute) and action.work is Work.BACKWARD and following == Reduce(action.node)
    )
