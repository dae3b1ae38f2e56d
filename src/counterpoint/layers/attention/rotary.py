"""Rotary position embeddings of queries and keys."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.layers.attention.spec import RopeScalingConfig
from counterpoint.models.batch import Batch, PatchBatch, TextBatch, Turns


class RotaryEmbedding(nn.Module, ABC):
    """Rotates queries and keys (rows, heads, head_dim) by angles that all layers of a model share."""

    @abstractmethod
    def turns(self, batch: Batch, dtype: torch.dtype, /) -> Turns | None:
        """The cos/sin cache of a batch, computed by the first layer that needs it."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor, turns: Turns | None, /) -> tuple[Tensor, Tensor]:
        """The rotated queries and keys."""


@final
class Unrotated(RotaryEmbedding):
    """Queries and keys as they are: positions were added before, or there are none."""

    def turns(self, _batch: Batch, _dtype: torch.dtype) -> None:
        return None

    def forward(self, queries: Tensor, keys: Tensor, _turns: Turns | None) -> tuple[Tensor, Tensor]:
        return queries, keys


@final
class Rotary(RotaryEmbedding):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by their positions (Su et al., 2021).

    With `sections` the first pairs rotate by the first coordinate of a position, the next by the second, and so on
    (Wang et al., 2024, arXiv:2409.12191); if `interleaved`, the coordinates alternate from the first pair on, so that
    each has high and low frequencies (Bai et al., 2025, arXiv:2511.21631). Angles are float32, and float64 for float64
    rows.
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
        """The coordinate by which each pair rotates, (rows, 1) or (rows, head_dim / 2)."""
        if self.sections is None:
            return positions[:, None]
        if self.interleaved:
            return self._in_turns(positions)
        return torch.cat([positions[:, i : i + 1].expand(-1, n) for i, n in enumerate(self.sections)], dim=1)

    def _in_turns(self, positions: Tensor) -> Tensor:
        """The coordinate of each pair where the axes alternate: time for pairs that are neither height's nor
        width's."""
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
class PatchRotary(RotaryEmbedding):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by the row and column of their patch: of the pairs
    of a half, the first half rotates by the row, the second by the column (Wang et al., 2024, arXiv:2409.12191).
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
    """The batch's cos/sin cache for these positions, made on first use; batches with other positions may share the
    dict."""
    known = batch.turns.get(key)
    if known is None or known[0] is not positions:
        known = batch.turns[key] = (positions, make())
    return known[1]


def _turns(angles: Tensor, dtype: torch.dtype) -> Turns:
    return angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]


def _rotate(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = rows.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
