"""The update of one rank's shards, which is the same element by element wherever parameters are cut."""

from collections.abc import Mapping, Sequence
from typing import final

import torch

from counterpoint.extend.models import Shard, Team
from counterpoint_example.nesterov.spec import VELOCITY, NesterovSection


@final
class NesterovUpdate:
    """Momentum of one module's shards on a rank."""

    def __init__(self, section: NesterovSection, shards: Sequence[Shard], _team: Team) -> None:
        self._section, self._shards = section, shards
        self._velocities = [torch.zeros_like(shard.values) for shard in shards]

    @torch.no_grad()
    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        """Update each shard; where `is_broken` all stays as it is, without a look at it from the host."""
        momentum = self._section.momentum
        for shard, velocity, gradient in zip(self._shards, self._velocities, gradients, strict=True):
            decay = self._section.weight_decay if len(shard.whole) > 1 else 0.0
            along = gradient + decay * shard.values
            faster = momentum * velocity + along
            values = shard.values - lr * (along + momentum * faster)
            velocity.copy_(torch.where(is_broken, velocity, faster))
            shard.values.copy_(torch.where(is_broken, shard.values, values))

    def moments(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """The velocity of each shard, which checkpoints hold."""
        return [{VELOCITY: velocity} for velocity in self._velocities]

    def set_step(self, step: int) -> None:
        """Nothing depends on the number of steps."""
