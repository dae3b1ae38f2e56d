"""Every action's inputs come earlier in its program; no action occurs twice or on a foreign rank."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from counterpoint.check.events import Programs, consumed
from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work, is_ahead
from counterpoint.plan.erase import Erasure
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import distinct
from counterpoint.plan.stages import action_ranks, is_on


def check_members(plan: Plan, programs: Programs) -> Fault | None:
    """The first action on a rank without its stage, or twice in a program."""
    for rank, program in programs.items():
        seen: set[Action] = set()
        nodes = plan.nodes_of(rank)
        for action in program:
            if not is_on(action, nodes):
                homes = list(action_ranks(action, plan.stages))
                return Fault(
                    f"rank {rank} has {action}, expected it on ranks {homes} only; remove it", ((rank, action),)
                )
            if action in seen:
                what = f"rank {rank} has {action} twice, expected it once; remove one"
                return Fault(what, ((rank, action),))
            seen.add(action)
    return None


def check_dataflow(plan: Plan, programs: Programs, erasure: Erasure | None = None) -> Fault | None:
    """The first action whose input does not come before it, or that some of its ranks lack.

    `erasure` says which actions a batch keeps; all of these are needed.
    """
    needs = _Needs(plan, {action for program in distinct(programs) for action in program}, erasure)
    for rank, program in programs.items():
        fault = _check_inputs(needs, rank, program) or _check_end(rank, program)
        if fault is not None:
            return fault
    return _check_shared(plan, programs)


def _check_inputs(needs: "_Needs", rank: int, program: tuple[Action, ...]) -> Fault | None:
    done: set[Action] = set()
    for action in program:
        for needed in needs.of(rank, action):
            if needed not in done:
                when = "later" if needed in program else "not at all"
                return Fault(
                    f"rank {rank} reaches {action} with {needed} {when} in its program, expected it before; "
                    f"put {needed} ahead of {action} on rank {rank}",
                    ((rank, action),),
                )
        done.add(action)
    return None


def _check_end(rank: int, program: tuple[Action, ...]) -> Fault | None:
    if program and program[-1] == Step():
        return None
    last = program[-1:]
    return Fault(
        f"rank {rank} ends with {last[0] if last else 'nothing'}, expected the step action S last; move it "
        "to the end of the program",
        tuple((rank, action) for action in last),
    )


def _check_shared(plan: Plan, programs: Programs) -> Fault | None:
    holders: dict[Action, list[int]] = {}
    for rank, program in programs.items():
        for action in program:
            holders.setdefault(action, []).append(rank)
    nodes_of = {rank: plan.nodes_of(rank) for rank in programs}
    for action, ranks in holders.items():
        if len(ranks) == len(programs):
            continue
        held = frozenset(ranks)
        missing = min((r for r, nodes in nodes_of.items() if r not in held and is_on(action, nodes)), default=None)
        if missing is not None:
            return Fault(
                f"rank {missing} lacks {action}, which rank {ranks[0]} has, expected it on both; erase an "
                "action on all of its ranks or on none",
                ((ranks[0], action),),
            )
    return None


@dataclass(frozen=True)
class _Needs:
    """What must come before an action on the same rank; an edge whose rows are erased brings nothing."""

    plan: Plan
    live: set[Action]
    erasure: Erasure | None

    def of(self, rank: int, action: Action) -> Iterator[Action]:
        """The actions that must come before one."""
        match action:
            case Compute(work=Work.FORWARD):
                yield from (transfer for transfer in consumed(self.plan, action) if self._brings(transfer))
            case Compute(node=node, work=Work.WEIGHT, microbatch=microbatch):
                yield Compute(node, Work.INPUT, microbatch)
            case Compute(node=node, microbatch=microbatch):
                yield Compute(node, Work.FORWARD, microbatch)
                for transfer in consumed(self.plan, action):
                    if replace(transfer, direction=Direction.FORWARD) in self.live:
                        yield transfer
            case Transfer():
                yield from self._maker(rank, action)
            case Reduce(node=node):
                works = (Work.BACKWARD, Work.INPUT, Work.WEIGHT)
                cells = product(works, range(self.plan.stages.count(node.module, self.plan.microbatches)))
                yield from (a for work, m in cells if (a := Compute(node, work, m)) in self.live)
            case Step():
                yield from (Reduce(node) for node in self.plan.nodes_of(rank) if Reduce(node) in self.live)

    def _brings(self, transfer: Transfer) -> bool:
        """Whether an exchange has rows for its target."""
        if self.erasure is not None:
            return self.erasure.keeps(transfer)
        stages, link = self.plan.stages, transfer.link
        microbatch = stages.source_microbatch(link, transfer.exchange)
        ahead = {transfer.ahead, stages.steps_ahead(link.source)}
        is_made = any(Compute(link.source, Work.FORWARD, microbatch, steps) in self.live for steps in ahead)
        # A microbatch of a grouped source serves several of the target; each of these may be empty.
        return link.is_hop or transfer in self.live or (is_made and stages.group(link.source.module) == 1)

    def _maker(self, rank: int, transfer: Transfer) -> Iterator[Action]:
        """The compute action that made what a rank sends."""
        stages, link = self.plan.stages, transfer.link
        if transfer.direction is Direction.BACKWARD:
            if rank in stages.ranks[link.target]:
                microbatch = stages.target_microbatch(link, transfer.exchange)
                half = Compute(link.target, Work.INPUT, microbatch)
                yield half if half in self.live else replace(half, work=Work.BACKWARD)
        elif rank in stages.ranks[link.source]:
            microbatch = stages.source_microbatch(link, transfer.exchange)
            here = Compute(link.source, Work.FORWARD, microbatch, transfer.ahead)
            earlier = replace(here, ahead=stages.steps_ahead(link.source))
            if here in self.live:
                yield here
            elif not self._made_before(rank, earlier):
                yield earlier

    def _made_before(self, rank: int, action: Compute) -> bool:
        """Whether earlier steps ran an action ahead, as the template does for later ones."""
        return action.ahead > 0 and action.node in self.plan.nodes_of(rank) and action in self._made_ahead

    @cached_property
    def _made_ahead(self) -> frozenset[Action]:
        """What the template does for later steps."""
        return frozenset(a for program in distinct(self.plan.schedule.programs) for a in program if is_ahead(a))
