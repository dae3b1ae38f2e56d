"""Rotary position embeddings of queries and keys."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.layers.attention.frequencies import frequencies
from counterpoint.layers.attention.rope import RopeScalingSection
from counterpoint.models.batch import Batch, CosSin, PatchBatch, TextBatch


class RotaryEmbedding(nn.Module, ABC):
    """Rotates queries and keys (rows, heads, head_dim); all layers of a model share the angles."""

    @abstractmethod
    def cos_sin(self, batch: Batch, dtype: torch.dtype, /) -> CosSin | None:
        """The cos/sin cache of a batch, None if nothing is rotated; the first layer that needs it computes it."""

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor, cos_sin: CosSin | None, /) -> tuple[Tensor, Tensor]:
        """The rotated queries and keys."""


@final
class Unrotated(RotaryEmbedding):
    """Leaves queries and keys unchanged: positions were added before, or the model has none."""

    def cos_sin(self, _batch: Batch, _dtype: torch.dtype) -> None:
        return None

    def forward(self, queries: Tensor, keys: Tensor, _cos_sin: CosSin | None) -> tuple[Tensor, Tensor]:
        return queries, keys


@final
class Rotary(RotaryEmbedding):
    """Rotates the halves of the first `width` columns of queries and keys (rows, heads, head_dim) by their positions
    (Su et al., 2021); further columns stay unchanged.

    `sections` gives each coordinate of a position (time, height, width) its number of pairs, in consecutive blocks
    (Wang et al., 2024, arXiv:2409.12191). If `interleaved`, the coordinates alternate from pair to pair instead, so
    that each has high and low frequencies (Bai et al., 2025, arXiv:2511.21631). Angles are float32, or float64 for
    float64 rows.
    """

    def __init__(
        self,
        width: int,
        theta: float,
        sections: tuple[int, ...] | None = None,
        *,
        interleaved: bool = False,
        scaling: RopeScalingSection | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.theta = theta
        self.sections = sections
        self.interleaved = interleaved
        self.scaling = scaling

    def cos_sin(self, batch: Batch, dtype: torch.dtype) -> CosSin:
        assert isinstance(batch, TextBatch), "a decoder reads text"
        key = (self.width, self.theta, self.sections, self.interleaved, self.scaling, dtype)
        factor = 1.0 if self.scaling is None else self.scaling.attention
        return _kept(batch, key, batch.positions, lambda: _cos_sin(self._angles(batch, dtype), dtype, factor))

    def forward(self, queries: Tensor, keys: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor]:
        assert cos_sin is not None, "angles were asked for"
        return _rotate(queries, *cos_sin), _rotate(keys, *cos_sin)

    def _angles(self, batch: TextBatch, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        exponents = torch.arange(0, self.width, 2, device=batch.positions.device, dtype=wide) / self.width
        return self._places(batch.positions).to(wide) * frequencies(self.theta, exponents, self.scaling, batch.extents)

    def _places(self, positions: Tensor) -> Tensor:
        """The coordinate by which each pair rotates, (rows, 1) or (rows, width / 2)."""
        if self.sections is None:
            return positions[:, None]
        if self.interleaved:
            return self._alternating(positions)
        return torch.cat([positions[:, i : i + 1].expand(-1, n) for i, n in enumerate(self.sections)], dim=1)

    def _alternating(self, positions: Tensor) -> Tensor:
        """The coordinate of each pair if coordinates alternate; pairs beyond those of height and width have time."""
        assert self.sections is not None, "there is one coordinate without sections"
        pair = torch.arange(self.width // 2, device=positions.device)
        places = positions[:, :1]
        for axis, pairs in enumerate(self.sections[1:], start=1):
            is_own = (pair % len(self.sections) == axis) & (pair < pairs * len(self.sections))
            places = torch.where(is_own, positions[:, axis : axis + 1], places)
        return places


@final
class PatchRotary(RotaryEmbedding):
    """Rotates queries and keys (rows, heads, head_dim) by the row and column of their patch.

    The first half of the pairs rotates by the row, the second by the column (Wang et al., 2024, arXiv:2409.12191).
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def cos_sin(self, batch: Batch, dtype: torch.dtype) -> CosSin:
        assert isinstance(batch, PatchBatch), "a tower reads patches"
        key = (self.head_dim, self.theta, dtype)
        return _kept(batch, key, batch.places, lambda: _cos_sin(self._angles(batch.places, dtype), dtype))

    def forward(self, queries: Tensor, keys: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor]:
        assert cos_sin is not None, "angles were asked for"
        return _rotate(queries, *cos_sin), _rotate(keys, *cos_sin)

    def _angles(self, places: Tensor, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        pairs = self.head_dim // 2
        exponents = torch.arange(0, pairs, 2, device=places.device, dtype=wide) / pairs
        return (places.to(wide)[:, :, None] * self.theta**-exponents).flatten(1)


def _kept(batch: TextBatch | PatchBatch, key: Hashable, positions: Tensor, make: Callable[[], CosSin]) -> CosSin:
    """The batch's cos/sin cache for these positions, made on first use.

    Batches with other positions may share the dict, so positions are compared by identity.
    """
    known = batch.cos_sin.get(key)
    if known is None or known[0] is not positions:
        known = batch.cos_sin[key] = (positions, make())
    return known[1]


def _cos_sin(angles: Tensor, dtype: torch.dtype, factor: float = 1.0) -> CosSin:
    return (angles.cos() * factor).to(dtype)[:, None], (angles.sin() * factor).to(dtype)[:, None]


def _rotate(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the columns of a head that have angles; those after them stay unchanged."""
    width = 2 * cosine.shape[-1]
    first, second = rows[..., :width].chunk(2, dim=-1)
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(rotated if width == rows.shape[-1] else (*rotated, rows[..., width:]), dim=-1)
