"""Erasure: what remains of a template for a step's batch. Erasing whole matched actions cannot create a cycle."""

from dataclasses import dataclass, field

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.stages import Stages


@dataclass
class Erasure:
    """Which actions have rows in a batch; what runs ahead belongs to the batch `ahead`.

    Either is None where there is no such step: before the first and after the last.
    """

    stages: Stages
    batch: BatchPlan | None
    ahead: BatchPlan | None
    _alive: dict[tuple[Node, int], bool] = field(default_factory=dict)

    def keeps(self, action: Action) -> bool:
        """Whether an action is part of the step."""
        match action:
            case Compute(node=node, work=work, microbatch=microbatch, ahead=ahead):
                batch = self.ahead if ahead else self.batch
                if batch is None or batch.is_empty(node.module, microbatch):
                    return False
                return work in (Work.FORWARD, Work.WEIGHT) or self._has_gradient(batch, node, microbatch)
            case Transfer(link=link, direction=direction, exchange=exchange, ahead=ahead):
                batch = self.ahead if ahead else self.batch
                if batch is None or not carries(self.stages, batch, link, exchange):
                    return False
                source = self.stages.source_microbatch(link, exchange)
                return direction is Direction.FORWARD or self._has_gradient(batch, link.source, source)
            case Reduce():
                return self.batch is not None
            case Step():
                return True

    def _has_gradient(self, batch: BatchPlan, node: Node, microbatch: int) -> bool:
        """Whether a gradient is needed at a node: it trains, or reads rows of this batch from a node that needs one."""
        if self.stages.trains(node):
            return True
        key = (node, microbatch)
        if key not in self._alive:
            self._alive[key] = any(
                carries(self.stages, batch, link, exchange)
                and self._has_gradient(batch, link.source, self.stages.source_microbatch(link, exchange))
                for link in self.stages.incoming(node)
                if self.stages.carries_gradient(link)
                for exchange in self.stages.into(link, microbatch, batch.microbatches)
            )
        return self._alive[key]


def carries(stages: Stages, batch: BatchPlan, link: Link, exchange: int) -> bool:
    """Whether an exchange of a link has a row on any rank."""
    if link.is_hop:
        return not batch.is_empty(link.source.module, exchange)
    grain = stages.grain(link)
    return not batch.served(link.source.module).isdisjoint(range(exchange * grain, (exchange + 1) * grain))
