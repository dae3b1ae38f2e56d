"""Regression of rows."""

from torch import Tensor

from counterpoint.losses.regression.spec import RegressionSection


def squared_difference(_section: RegressionSection, rows: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The sum over rows (n, width) of the mean squared difference from their own targets.

    `own` int64 (n,) are the indices of these among targets (m, width).
    """
    return (rows - targets.index_select(0, own)).square().mean(dim=1).sum()
