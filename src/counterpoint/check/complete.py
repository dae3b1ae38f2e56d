"""A template is complete: every microbatch goes through every node and link, and what trains is reduced."""

from collections.abc import Iterator, Set

from counterpoint.check.fault import Fault
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import Schedule, distinct


def check_complete(plan: Plan, schedule: Schedule, training: bool) -> Fault | None:
    """The first action that a template lacks; a backward is whole or in its two halves."""
    held: set[Action] = {action for program in distinct(schedule.programs) for action in program}
    for node in plan.stages.nodes:
        for microbatch in range(plan.stages.count(node.module, plan.microbatches)):
            for action in _wanted(plan, node, microbatch, training, held):
                if action not in held:
                    return _lacks(schedule, action)
    for action in _links(plan, training):
        if action not in held:
            return _lacks(schedule, action)
    ends: list[Action] = [Reduce(node) for node in plan.stages.nodes if training and plan.stages.trains(node)]
    return next((_lacks(schedule, action) for action in (*ends, Step()) if action not in held), None)


def _wanted(plan: Plan, node: Node, microbatch: int, training: bool, held: Set[Action]) -> Iterator[Action]:
    """The actions of a node for a microbatch."""
    stages = plan.stages
    yield stages.forward(node, microbatch) if training else Compute(node, Work.FORWARD, microbatch)
    if training and stages.has_backward(node):
        half, weights = Compute(node, Work.INPUT, microbatch), Compute(node, Work.WEIGHT, microbatch)
        if half not in held:
            yield Compute(node, Work.BACKWARD, microbatch)
        elif stages.trains(node):
            yield weights


def _links(plan: Plan, training: bool) -> Iterator[Action]:
    """The transfers over all links."""
    stages = plan.stages
    for link in stages.links:
        for exchange in range(stages.exchanges(link, plan.microbatches)):
            transfer = stages.transfer(link, Direction.FORWARD, exchange)
            yield transfer if training else Transfer(link, Direction.FORWARD, exchange)
            if training and stages.carries_gradient(link):
                yield Transfer(link, Direction.BACKWARD, exchange)


def _lacks(schedule: Schedule, action: Action) -> Fault:
    return Fault(
        f"the {schedule.kind} schedule has {action} on no rank, expected every action that a batch could need; let its "
        "builder emit it"
    )
