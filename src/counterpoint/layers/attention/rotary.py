"""How queries and keys learn of their positions."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.layers.attention.spec import RopeScalingConfig
from counterpoint.models.batch import Batch, PatchBatch, TextBatch, Turns


class Turning(nn.Module, ABC):
    """Turns queries and keys (rows, heads, head_dim) by angles that all layers of a model share."""

    @abstractmethod
    def turns(self, batch: Batch, dtype: torch.dtype, /) -> Turns | None:
        """The cosines and sines of a batch's angles, computed by the first layer that asks."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor, turns: Turns | None, /) -> tuple[Tensor, Tensor]:
        """The turned queries and keys."""


@final
class Unrotated(Turning):
    """Queries and keys as they are: positions were added before, or there are none."""

    def turns(self, _batch: Batch, _dtype: torch.dtype) -> None:
        return None

    def forward(self, queries: Tensor, keys: Tensor, _turns: Turns | None) -> tuple[Tensor, Tensor]:
        return queries, keys


@final
class Rotary(Turning):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by their positions (Su et al., 2021).

    With `sections` the first pairs turn with the first coordinate of a position, the next with the second, and so on
    (Wang et al., 2024, arXiv:2409.12191); `interleaved`, they take turns from the first pair on, so that each has high
    and low frequencies (Bai et al., 2025, arXiv:2511.21631). Angles are float32, and float64 for float64 rows.
    """

    def __init__(
        self,
        head_dim: int,
        theta: float,
        sections: tuple[int, ...] | None = None,
        *,
        interleaved: bool = False,
        scaling: RopeScalingConfig | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta
        self.sections = sections
        self.interleaved = interleaved
        self.scaling = scaling

    def turns(self, batch: Batch, dtype: torch.dtype) -> Turns:
        assert isinstance(batch, TextBatch), "a decoder reads text"
        key = (self.head_dim, self.theta, self.sections, self.interleaved, self.scaling, dtype)
        return _kept(batch, key, batch.positions, lambda: _turns(self._angles(batch.positions, dtype), dtype))

    def forward(self, queries: Tensor, keys: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor]:
        assert turns is not None, "angles were asked for"
        return _rotate(queries, *turns), _rotate(keys, *turns)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        exponents = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=wide) / self.head_dim
        turns = self.theta**-exponents
        if self.scaling is not None:
            turns = _slowed(turns, self.scaling)
        return self._places(positions).to(wide) * turns

    def _places(self, positions: Tensor) -> Tensor:
        """The coordinate that turns each pair, (rows, 1) or (rows, head_dim / 2)."""
        if self.sections is None:
            return positions[:, None]
        if self.interleaved:
            return self._in_turns(positions)
        return torch.cat([positions[:, i : i + 1].expand(-1, n) for i, n in enumerate(self.sections)], dim=1)

    def _in_turns(self, positions: Tensor) -> Tensor:
        """Time turns the pairs that neither height nor width does."""
        assert self.sections is not None, "there is one coordinate without sections"
        pair = torch.arange(self.head_dim // 2, device=positions.device)
        places = positions[:, :1]
        for axis, pairs in enumerate(self.sections[1:], start=1):
            is_own = (pair % len(self.sections) == axis) & (pair < pairs * len(self.sections))
            places = torch.where(is_own, positions[:, axis : axis + 1], places)
        return places


def _slowed(turns: Tensor, scaling: RopeScalingConfig) -> Tensor:
    """Angles per position, scaled for longer documents: slow pairs, or all, become slower."""
    if scaling.original_positions is None:
        return turns / scaling.factor
    turned = scaling.original_positions * turns / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turned - low) / (high - low)).clamp(0.0, 1.0)
    return turns * (kept + (1.0 - kept) / scaling.factor)


@final
class PatchRotary(Turning):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by the row and column of their patch: of the pairs
    of a half, the first half turns with the row, the second with the column (Wang et al., 2024, arXiv:2409.12191).
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def turns(self, batch: Batch, dtype: torch.dtype) -> Turns:
        assert isinstance(batch, PatchBatch), "a tower reads patches"
        key = (self.head_dim, self.theta, dtype)
        return _kept(batch, key, batch.places, lambda: _turns(self._angles(batch.places, dtype), dtype))

    def forward(self, queries: Tensor, keys: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor]:
        assert turns is not None, "angles were asked for"
        return _rotate(queries, *turns), _rotate(keys, *turns)

    def _angles(self, places: Tensor, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        pairs = self.head_dim // 2
        exponents = torch.arange(0, pairs, 2, device=places.device, dtype=wide) / pairs
        return (places.to(wide)[:, :, None] * self.theta**-exponents).flatten(1)


def _kept(batch: TextBatch | PatchBatch, key: Hashable, positions: Tensor, make: Callable[[], Turns]) -> Turns:
    """What the batch keeps for these positions, made at the first time: a batch with others may share what it keeps."""
    known = batch.turns.get(key)
    if known is None or known[0] is not positions:
        known = batch.turns[key] = (positions, make())
    return known[1]


def _turns(angles: Tensor, dtype: torch.dtype) -> Turns:
    return angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]


def _rotate(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = rows.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
