"""Costs of stages as whole numbers, by which schedules are laid out, from what the clock says of their actions."""

from counterpoint.check.machine import Cost
from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.stages import StageCosts

LARGEST = 1000
"""The cost of the costliest half of a backward, or forward, of any stage."""


def stage_costs(plan: Plan, cost: Cost) -> dict[str, tuple[StageCosts, ...]]:
    """What a config may say as `modules.*.stage_costs`: means over the microbatches, relative to the largest.

    `cost` is asked for the first rank of each stage.
    """
    means = {node: _means(plan, node, cost) for node in plan.stages.nodes}
    largest = max((mean for of in means.values() for mean in of), default=0.0)
    found: dict[str, tuple[StageCosts, ...]] = {}
    for node, of in means.items():
        forward, inputs, weights = (round(LARGEST * mean / largest) if largest else 1 for mean in of)
        found[node.module] = (*found.get(node.module, ()), StageCosts(max(1, forward), inputs, weights))
    return found


def _means(plan: Plan, node: Node, cost: Cost) -> tuple[float, ...]:
    """Of one microbatch of a stage: forward, gradients of inputs and of weights."""
    count = plan.stages.count(node.module, plan.microbatches)
    works, rank = (Work.FORWARD, Work.INPUT, Work.WEIGHT), plan.stages.ranks[node][0]
    return tuple(sum(cost(rank, Compute(node, work, m)) for m in range(count)) / count for work in works)
