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
    """The first action whose input is not there yet; what stands in no program is erased and not an input."""
    live = {action for program in programs.values() for action in program}
    for rank, program in programs.items():
        done: set[Action] = set()
        for action in program:
            for needed in _needed(plan, rank, action):
                if needed in live and needed not in done:
                    when = "later" if needed in program else "not at all"
                    return Fault(
                        f"rank {rank} reaches {action} with {needed} {when} in its program, expected it "
                        f"before; move {needed} ahead of {action} on rank {rank}",
                        ((rank, action),),
                    )
            done.add(action)
        if Step() in live and (not program or program[-1] != Step()):
            last = program[-1:]
            return Fault(
                f"rank {rank} ends with {last[0] if last else 'nothing'}, expected the step action S last; "
                "move it to the end of the program",
                tuple((rank, action) for action in last),
            )
    return None


def _needed(plan: Plan, rank: int, action: Action) -> Iterator[Action]:
    """What must stand before an action on the same rank."""
    match action:
        case Compute(node=node, direction=direction, microbatch=microbatch):
            yield from consumed(plan, action)
            if direction is Direction.BACKWARD:
                yield Compute(node, Direction.FORWARD, microbatch)
        case Transfer(link=link, direction=direction, microbatch=microbatch):
            producer = link.source if direction is Direction.FORWARD else link.target
            if rank in plan.stages.ranks[producer]:
                yield Compute(producer, direction, microbatch)
        case Reduce(node=node):
            for microbatch in range(plan.microbatches):
                yield Compute(node, Direction.BACKWARD, microbatch)
        case Step():
            yield from (Reduce(node) for node in plan.nodes_of(rank))
