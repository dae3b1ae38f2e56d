"""The arguments of optimizers: a rank's shards of one module, as plain local tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist

from counterpoint.optimizers.pieces import Piece


@dataclass(frozen=True, slots=True)
class Shard:
    """A rank's `piece` of the parameter `name` of a module, whose global shape is `whole`.

    `values` shares memory with the model's parameter; it begins with the piece, and padding may follow. The piece has
    at least one element. `rounded`, where there is one, is what the model computes with: the values in another dtype.
    """

    name: str
    whole: tuple[int, ...]
    piece: Piece
    values: torch.Tensor
    rounded: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """The pieces of a parameter of global shape `whole` on the ranks of a team; replicas have equal pieces."""

    whole: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Team:
    """The ranks that together hold all pieces of some parameters of a module.

    `rank` is this rank's number in `group`, which is None if the rank is alone. `spreads` are by parameter name, equal
    and in the same order on all ranks. Models compute in `compute` on `device`.
    """

    group: dist.ProcessGroup | None
    rank: int
    spreads: Mapping[str, Spread]
    compute: torch.dtype
    device: torch.device


class Update(Protocol):
    """Updates the shards that it was built with; never waits for the device."""

    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        """Update each shard with its gradient; if `is_broken`, bool () on the device, change nothing."""

    def moments(self) -> Sequence[Mapping[str, torch.Tensor]]:
        """For each shard its moments by name, sharing memory; zeros before the first step."""

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""


@runtime_checkable
class ScalingUpdate(Update, Protocol):
    """An `Update` that can also scale gradients, such as while it reads them; those of others are scaled before.

    It takes gradients of any dtype; others get them in that of the values. If `writes_rounded`, each step leaves the
    updated values also in `rounded` of all shards that have it.
    """

    writes_rounded: bool

    def step_scaled(
        self, gradients: Sequence[torch.Tensor], scale: torch.Tensor | None, lr: float, is_broken: torch.Tensor
    ) -> None:
        """As `step`, with gradients times `scale`, float64 () on the device, None for 1; it may overwrite them."""
