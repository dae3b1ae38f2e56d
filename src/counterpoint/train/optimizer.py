"""The update of one module on this rank: gradients scaled, handed to its optimizer, and dropped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.optimizers.shard import Shard
from counterpoint.train.parameters import LocalParameter


@dataclass(frozen=True, slots=True)
class Clipping:
    """What a step does with all gradients, as scalars on the device: multiply them by `scale`, float64, None for 1,
    and update nothing if `is_broken`."""

    scale: torch.Tensor | None
    is_broken: torch.Tensor


class ModuleOptimizer:
    """The optimizer of one module's shards on this rank.

    It works on plain local tensors that share memory with the sharded parameters.
    """

    def __init__(self, section: OptimizerSection, parameters: Iterable[LocalParameter]) -> None:
        self._parameters = tuple(parameters)
        self._held = tuple(parameter for parameter in self._parameters if parameter.block.numel)
        shards = [Shard(p.block.name, len(p.block.global_shape), p.value) for p in self._held]
        self._update = OPTIMIZERS[section.kind].build(section, shards) if shards else None

    def step(self, lr: float, clipping: Clipping) -> None:
        """Update with scaled gradients, then drop the gradients; never waits for the device."""
        if self._update is not None:
            gradients = [parameter.gradient for parameter in self._held]
            if clipping.scale is not None:
                torch._foreach_mul_(gradients, clipping.scale.to(gradients[0].dtype))
            self._update.step(gradients, lr, clipping.is_broken)
        # Also those without elements: each is a view of the sums of a whole group, which it would keep.
        for parameter in self._parameters:
            parameter.parameter.grad = None

    def moments(self) -> Iterator[tuple[LocalParameter, str, torch.Tensor]]:
        """What is kept of each shard, by name, sharing memory; zeros where no step was taken yet."""
        kept = () if self._update is None else self._update.moments()
        for parameter, moments in zip(self._held, kept, strict=True):
            for name, moment in moments.items():
                yield parameter, name, moment

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""
        if self._update is not None:
            self._update.set_step(step)
