"""The z-loss of rows."""

from collections.abc import Callable

from torch import Tensor

from counterpoint.losses.z_loss.spec import ZLossSection


def term(_section: ZLossSection) -> Callable[[Tensor, Tensor], Tensor]:
    """The square of the logarithms of all words' exponentials, (rows,) -> (rows,)."""
    return _squared


def _squared(whole: Tensor, _target: Tensor) -> Tensor:
    return whole.square()
