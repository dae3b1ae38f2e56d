"""What mixtures of experts need of a step as a whole: counts over all ranks, the expert bias, the balance loss."""

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist

from counterpoint.models.batch import Batch, TextBatch
from counterpoint.models.seams import Counted
from counterpoint.plan.plan import Plan
from counterpoint.train.replica import Replica


class RoutedStep:
    """The routing of this rank's layers in one step; the same calls on all ranks of the plan."""

    def __init__(self, plan: Plan, replicas: Iterable[Replica], device: torch.device) -> None:
        self._keys = routed_layers(plan)
        self._layers = {
            f"{replica.stage.node.module}.{name}": module
            for replica in replicas
            for name, module in replica.chain.named_modules()
            if isinstance(module, Counted)
        }
        self._device = device
        self._batches: list[TextBatch] = []

    def begin(self, batches: Mapping[tuple[str, int], Batch]) -> None:
        """Take the batches in which the layers are going to note what they route."""
        self._batches = [batch for batch in batches.values() if isinstance(batch, TextBatch)]

    @property
    def balance(self) -> torch.Tensor | float:
        """The balance loss of this rank's rows, over all its layers and microbatches."""
        noted = [batch.routed[layer].balance for layer in self._layers.values() for batch in self._having(layer)]
        return torch.stack(noted).double().sum() if noted else 0.0

    def counts(self, group: dist.ProcessGroup) -> dict[str, torch.Tensor]:
        """How many rows each expert of each layer saw on all ranks, int64 (experts,) by layer; one reduction."""
        if not self._keys:
            return {}
        local = [self._local(self._layers.get(key), experts) for key, experts in self._keys.items()]
        total = torch.cat(local)
        dist.all_reduce(total, group=group)
        return dict(zip(self._keys, torch.split(total, list(self._keys.values())), strict=True))

    def settle(self, counts: Mapping[str, torch.Tensor], is_broken: torch.Tensor) -> None:
        """Let this rank's layers change by the counts of the step, once a step, unless it is broken."""
        for key, layer in self._layers.items():
            layer.settle(counts[key], is_broken)

    def _having(self, layer: Counted) -> list[TextBatch]:
        return [batch for batch in self._batches if layer in batch.routed]

    def _local(self, layer: Counted | None, experts: int) -> torch.Tensor:
        counts = torch.zeros(experts, dtype=torch.int64, device=self._device)
        if layer is not None:
            for batch in self._having(layer):
                counts += batch.routed[layer].counts
        return counts


def routed_layers(plan: Plan) -> dict[str, int]:
    """The number of experts of every mixture in the plan, by `<module>.layers.<n>.moe` or, of multi-token prediction,
    `<module>.mtp.<depth>.layers.<n>.moe`."""
    return {
        f"{module}.{part.name}.{name}": experts
        for module in plan.graph.modules
        for part in plan.facts[module].parts
        for name, experts in part.mixtures
    }
