"""Step-wide state of mixtures of experts: row counts over all ranks, the expert bias, the balance loss."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist

from counterpoint.execute.stage import Stage
from counterpoint.models.seams import BALANCE, COUNTS, Counted
from counterpoint.plan.plan import Plan
from counterpoint.train.replica import Replica


@dataclass(frozen=True, slots=True)
class _Layer:
    """An MoE layer of this rank, its stage, and its name there."""

    module: Counted
    stage: Stage
    name: str

    def results(self, which: str) -> list[torch.Tensor]:
        """One of its results, for each microbatch of the step."""
        return self.stage.results(f"{self.name}.{which}")


class RoutedStep:
    """The routing of this rank's layers in one step; all ranks of the plan make the same calls."""

    def __init__(self, plan: Plan, replicas: Iterable[Replica], device: torch.device) -> None:
        self._keys = routed_layers(plan)
        self._layers = {
            f"{replica.stage.node.module}.{name}": _Layer(module, replica.stage, name)
            for replica in replicas
            for name, module in replica.chain.named_modules()
            if isinstance(module, Counted)
        }
        self._device = device

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all MoE layers of the plan, in the order of `counts`."""
        return tuple(self._keys)

    @property
    def balance(self) -> torch.Tensor | float:
        """The balance loss of this rank's rows, over all its layers and microbatches."""
        found = [loss for layer in self._layers.values() for loss in layer.results(BALANCE)]
        return torch.stack(found).double().sum() if found else 0.0

    def counts(self, group: dist.ProcessGroup) -> dict[str, torch.Tensor]:
        """Rows per expert over all ranks, int64 (experts,) by layer; a single all-reduce."""
        if not self._keys:
            return {}
        total = torch.cat([self._local(key, experts) for key, experts in self._keys.items()])
        dist.all_reduce(total, group=group)
        return dict(zip(self._keys, torch.split(total, list(self._keys.values())), strict=True))

    def settle(self, counts: Mapping[str, torch.Tensor], is_broken: torch.Tensor) -> None:
        """Let this rank's layers update from the counts of the step, once a step, unless it `is_broken`."""
        for key, layer in self._layers.items():
            layer.module.settle(counts[key], is_broken)

    def _local(self, key: str, experts: int) -> torch.Tensor:
        counts = torch.zeros(experts, dtype=torch.int64, device=self._device)
        for seen in self._layers[key].results(COUNTS) if key in self._layers else ():
            counts += seen
        return counts


def routed_layers(plan: Plan) -> dict[str, int]:
    """The number of experts of every MoE layer of the plan, by its name: `<module>.layers.<n>.moe`, or, in multi-token
    prediction, `<module>.mtp.<depth>.layers.<n>.moe`."""
    return {
        f"{module}.{part.name}.{name}": experts
        for module in plan.graph.modules
        for part in plan.facts[module].parts
        for name, experts in part.mixtures
    }
