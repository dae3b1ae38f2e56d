"""A loss of the rows that leave a module for items, attached to them."""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from counterpoint.models.attached import attach
from counterpoint.models.batch import Compared
from counterpoint.models.seams import LaneTotal, widened

OfRows = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rows (n, width), targets (m, width) and which of these are theirs, int64 (n,), to the sum of a loss over the rows."""


@final
class RowsLoss(nn.Module):
    """Attaches `weight` times the mean of a loss to rows (rows, width), and reports the mean, not weighed.

    Where it `is_pooled` the loss is of the means of items' rows, and the same in all processes of a lane.
    """

    def __init__(self, weight: float, of_rows: OfRows, is_pooled: bool) -> None:
        super().__init__()
        self.weight, self.of_rows, self.is_pooled = weight, of_rows, is_pooled
        self.lane_total: nn.Module = LaneTotal() if is_pooled else nn.Identity()

    def forward(self, rows: Tensor, given: Compared) -> tuple[Tensor, Tensor]:
        """The same rows, and the mean, a scalar: 0 where the denominator is."""
        compared = widened(rows.index_select(0, given.rows))
        if self.is_pooled:
            compared = self._pooled(compared, given)
        scale = 1.0 / given.denominator if given.denominator > 0 else 0.0
        mean = self.of_rows(compared, given.targets.to(compared.dtype), given.own) * scale
        # A module gives out no view: FSDP2 warns of what hooks on one may lose.
        return attach(rows, mean * self.weight).clone(), mean.detach()

    def _pooled(self, rows: Tensor, given: Compared) -> Tensor:
        """The mean (items, width) of the rows of each item, wherever in the lane they are."""
        sums = rows.new_zeros((given.extents.shape[0], rows.shape[1])).index_add(0, given.item, rows)
        whole: Tensor = self.lane_total(sums)
        return whole / given.extents[:, None]
