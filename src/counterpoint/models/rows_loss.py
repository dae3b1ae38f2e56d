"""A loss of the output rows of items, attached to these rows."""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from counterpoint.models.attached import attach
from counterpoint.models.batch import Compared
from counterpoint.models.seams import LaneTotal, widened

OfRows = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rows (n, width), targets (m, width) and the index of each row's own target, int64 (n,) -> the sum of the loss."""


@final
class RowsLoss(nn.Module):
    """Attaches `weight` times the mean of a loss to rows (rows, width), and reports the mean without the weight.

    If `is_pooled`, the loss is of the means of each item's rows, and equal on all ranks of a lane.
    """

    def __init__(self, weight: float, of_rows: OfRows, is_pooled: bool) -> None:
        super().__init__()
        self.weight, self.of_rows, self.is_pooled = weight, of_rows, is_pooled
        self.lane_total: nn.Module = LaneTotal() if is_pooled else nn.Identity()

    def forward(self, rows: Tensor, given: Compared) -> tuple[Tensor, Tensor]:
        """Rows (rows, width) -> the same rows, and the mean of the loss, a scalar; 0 if the denominator is 0."""
        compared = widened(rows.index_select(0, given.rows))
        if self.is_pooled:
            compared = self._pooled(compared, given)
        scale = 1.0 / given.denominator if given.denominator > 0 else 0.0
        mean = self.of_rows(compared, given.targets.to(compared.dtype), given.own) * scale
        # A clone, not a view: FSDP2 warns about hooks on views that modules return.
        return attach(rows, mean * self.weight).clone(), mean.detach()

    def _pooled(self, rows: Tensor, given: Compared) -> Tensor:
        """The mean (items, width) over all rows of each item, on all ranks of the lane."""
        sums = rows.new_zeros((given.extents.shape[0], rows.shape[1])).index_add(0, given.item, rows)
        whole: Tensor = self.lane_total(sums)
        return whole / given.extents[:, None]
