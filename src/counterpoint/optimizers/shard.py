"""What an optimizer works on: a rank's shards of one module, as plain local tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a parameter, which is called `name` in its module and has `dims` dimensions as a whole.

    `values` shares memory with what the model computes with; it has elements, and any shape.
    """

    name: str
    dims: int
    values: torch.Tensor


class Update(Protocol):
    """Updates the shards that it was made of; never waits for the device."""

    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        """Update each shard with its gradient; where `is_broken`, bool on the device, nothing changes at all."""

    def moments(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """Of each shard the tensors that are kept of it by their names, sharing memory; zeros before the first step."""

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""
