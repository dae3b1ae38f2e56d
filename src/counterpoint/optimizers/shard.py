"""What an optimizer works on: a rank's shards of one module, as plain local tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist

from counterpoint.optimizers.pieces import Piece


@dataclass(frozen=True, slots=True)
class Shard:
    """A `piece` of a parameter, which is called `name` in its module and has the shape `whole` as a whole.

    `values` shares memory with what the model computes with; the piece lies at its front, padding may follow. It has
    elements.
    """

    name: str
    whole: tuple[int, ...]
    piece: Piece
    values: torch.Tensor


@dataclass(frozen=True, slots=True)
class Spread:
    """How a parameter of the shape `whole` lies on the ranks of a team: the piece of each, of some the same."""

    whole: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Team:
    """The ranks that hold all pieces of some parameters of a module among them.

    `rank` is this one's number among the ranks of `group`, which is None where there is no other; `spreads` are those
    of the parameters, by name, the same on all ranks and in the same order. Models compute in `compute` on `device`.
    """

    group: dist.ProcessGroup | None
    rank: int
    spreads: Mapping[str, Spread]
    compute: torch.dtype
    device: torch.device


class Update(Protocol):
    """Updates the shards that it was made of; never waits for the device."""

    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        """Update each shard with its gradient; where `is_broken`, bool on the device, nothing changes at all."""

    def moments(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """Of each shard the tensors that are kept of it by their names, sharing memory; zeros before the first step."""

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""
