"""Further losses of a step besides the main one: their names, denominators, and this rank's contributions."""

from collections.abc import Iterable, Iterator

import torch

from counterpoint.losses import LOSSES
from counterpoint.models.seams import TERMS
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.plan.plan import Plan
from counterpoint.train.replica import Replica


def further_names(plan: Plan) -> tuple[str, ...]:
    """`<module>.<kind>` of every further loss, in the same order on all ranks."""
    return tuple(_name(module, loss) for module, losses in sorted(plan.losses.items()) for loss in losses)


def further_denominators(plan: Plan, batch: BatchPlan) -> dict[str, int]:
    """The denominators of further losses in a step, by name."""
    return {
        _name(module, loss): LOSSES[loss.kind].denominator(batch, plan.rows[module], loss)
        for module, losses in sorted(plan.losses.items())
        for loss in losses
    }


def local_losses(plan: Plan, replicas: Iterable[Replica], rank: int) -> list[torch.Tensor | float]:
    """This rank's contribution to each loss over its microbatches, in the order of `further_names`."""
    found: dict[str, torch.Tensor | float] = dict.fromkeys(further_names(plan), 0.0)
    for replica in replicas:
        found |= dict(_of_scores(plan, replica))
        found |= dict(_of_items(plan, replica, rank))
    return list(found.values())


def _of_scores(plan: Plan, replica: Replica) -> Iterator[tuple[str, torch.Tensor]]:
    """The terms of a decoder's head; tp rank 0 counts them."""
    module = replica.stage.node.module
    seen = replica.stage.results(f"head.{TERMS}") if replica.stage.counts_loss else []
    if seen:
        total = torch.stack(seen).double().sum(dim=0)
        yield from zip((_name(module, loss) for loss in plan.losses[module]), total.unbind(), strict=True)


def _of_items(plan: Plan, replica: Replica, rank: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Losses of item rows: every rank counts its own rows; the first rank of a lane counts pooled losses."""
    module = replica.stage.node.module
    coordinate = plan.layouts[module].coordinate(rank)
    is_first = coordinate.cp == coordinate.tp == 0
    for loss in plan.losses.get(module, ()):
        seen = replica.stage.results(f"losses.{loss.kind}")
        if seen and (is_first or not loss.is_pooled):
            yield _name(module, loss), torch.stack(seen).double().sum()


def _name(module: str, loss: FurtherLoss) -> str:
    return f"{module}.{loss.kind}"
