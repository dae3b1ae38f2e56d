"""How queries and keys learn of their positions."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import Batch, PatchBatch, TextBatch


@final
class Unrotated(nn.Module):
    """Queries and keys as they are: positions were added before, or there are none."""

    def forward(self, queries: Tensor, keys: Tensor, _batch: Batch) -> tuple[Tensor, Tensor]:
        return queries, keys


@final
class Rotary(nn.Module):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by their positions (Su et al., 2021).

    With `sections` the first pairs turn with the first coordinate of a position, the next with the second, and so on
    (Wang et al., 2024, arXiv:2409.12191); `interleaved`, they take turns from the first pair on, so that each has high
    and low frequencies (Bai et al., 2025, arXiv:2511.21631). Angles are float32, and float64 for float64 rows.
    """

    def __init__(
        self, head_dim: int, theta: float, sections: tuple[int, ...] | None = None, *, interleaved: bool = False
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta
        self.sections = sections
        self.interleaved = interleaved

    def forward(self, queries: Tensor, keys: Tensor, batch: TextBatch) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(queries.dtype, torch.float32)
        exponents = torch.arange(0, self.head_dim, 2, device=queries.device, dtype=wide) / self.head_dim
        angles = self._places(batch.positions).to(wide) * self.theta**-exponents
        cosine, sine = angles.cos().to(queries.dtype)[:, None], angles.sin().to(queries.dtype)[:, None]
        return _rotate(queries, cosine, sine), _rotate(keys, cosine, sine)

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


@final
class PatchRotary(nn.Module):
    """Rotate the halves of queries and keys (rows, heads, head_dim) by the row and column of their patch: of the pairs
    of a half, the first half turns with the row, the second with the column (Wang et al., 2024, arXiv:2409.12191).
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.theta = theta

    def forward(self, queries: Tensor, keys: Tensor, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(queries.dtype, torch.float32)
        pairs = self.head_dim // 2
        exponents = torch.arange(0, pairs, 2, device=queries.device, dtype=wide) / pairs
        angles = (batch.places.to(wide)[:, :, None] * self.theta**-exponents).flatten(1)
        cosine, sine = angles.cos().to(queries.dtype)[:, None], angles.sin().to(queries.dtype)[:, None]
        return _rotate(queries, cosine, sine), _rotate(keys, cosine, sine)


def _rotate(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = rows.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
