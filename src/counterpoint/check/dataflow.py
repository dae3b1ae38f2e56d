"""Every action finds what it consumes earlier in its program; nothing stands twice or on a foreign rank."""

from collections.abc import Iterator

from counterpoint.check.events import Programs, consumed
from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import action_ranks


def check_members(plan: Plan, programs: Programs) -> Fault | None:
    """The first action that stands on a rank without that stage, or twice in a program."""
    homes: dict[Action, frozenset[int]] = {}
    for rank, program in programs.items():
        seen: set[Action] = set()
        for action in program:
            if action not in homes:
                homes[action] = frozenset(action_ranks(action, plan.stages))
            if rank not in homes[action]:
                return Fault(
                    f"rank {rank} has {action}, expected it on ranks {sorted(homes[action])} only; remove it",
                    ((rank, action),),
                )
            if action in seen:
                what = f"rank {rank} has {action} twice, expected it once; remove one"
                return Fault(what, ((rank, action),))
            seen.add(action)
    return None


def check_dataflow(plan: Plan, programs: Programs) -> Fault | None:
    """The first action whose input does not stand before it, or that some of its ranks lack."""
    live = {action for program in programs.values() for action in program}
    for rank, program in programs.items():
        fault = _check_inputs(plan, rank, program, live) or _check_end(rank, program)
        if fault is not None:
            return fault
    return _check_shared(plan, programs)


def _check_inputs(plan: Plan, rank: int, program: tuple[Action, ...], live: set[Action]) -> Fault | None:
    done: set[Action] = set()
    for action in program:
        for needed in _needed(plan, rank, action, live):
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
    for action, ranks in holders.items():
        missing = sorted(set(action_ranks(action, plan.stages)) - set(ranks))
        if missing:
            return Fault(
                f"rank {missing[0]} lacks {action}, which rank {ranks[0]} has, expected it on both; erase an "
                "action on all of its ranks or on none",
                ((ranks[0], action),),
            )
    return None


def _needed(plan: Plan, rank: int, action: Action, live: set[Action]) -> Iterator[Action]:
    """What must stand before an action on the same rank; an edge whose source is erased brings nothing."""
    match action:
        case Compute(node=node, direction=Direction.FORWARD, microbatch=microbatch):
            for transfer in consumed(plan, action):
                if transfer.link.is_hop or Compute(transfer.link.source, Direction.FORWARD, microbatch) in live:
                    yield transfer
        case Compute(node=node, direction=Direction.BACKWARD, microbatch=microbatch):
            yield Compute(node, Direction.FORWARD, microbatch)
            for transfer in consumed(plan, action):
                if Transfer(transfer.link, Direction.FORWARD, microbatch) in live:
                    yield transfer
        case Transfer(link=link, direction=direction, microbatch=microbatch):
            producer = link.source if direction is Direction.FORWARD else link.target
            if rank in plan.stages.ranks[producer]:
                yield Compute(producer, direction, microbatch)
        case Reduce(node=node):
            backwards = (Compute(node, Direction.BACKWARD, m) for m in range(plan.microbatches))
            yield from (backward for backward in backwards if backward in live)
        case Step():
            yield from (Reduce(node) for node in plan.nodes_of(rank) if Reduce(node) in live)
