"""Places where rows change their distribution: the identity, until parallelize/ replaces it."""

from typing import final

from torch import Tensor, nn


class Enter(nn.Module):
    """Before the first linears of a sublayer: their input, rows (rows, hidden)."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def products(self, rows: Tensor, *linears: nn.Module) -> tuple[Tensor, ...]:
        """What each of the linears makes of the input."""
        entered = self(rows)
        return tuple(linear(entered) for linear in linears)


class Leave(nn.Module):
    """After the last linear of a sublayer and before its bias: a sum over the features that it consumed."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows

    def product(self, rows: Tensor, weight: Tensor, multiply: nn.Module) -> Tensor:
        """What leaves of the rows' product with a weight."""
        left: Tensor = self(multiply(rows, weight, None))
        return left


@final
class LookupLeave(nn.Identity):
    """After the lookup of words: a sum over the pieces of the vocabulary."""


@final
class StageEnter(nn.Identity):
    """The rows that come into a run of parts."""


@final
class StageLeave(nn.Identity):
    """The rows that a run of parts hands on."""


@final
class RowsEnter(nn.Identity):
    """Before a sublayer that works row by row: the rows that this process is to work on."""


@final
class RowsLeave(nn.Identity):
    """After a sublayer that works row by row: the rows of the residual stream."""


@final
class OwnChannels(nn.Identity):
    """Constants (channels, ...) that every process holds for all channels: those of the channels at hand."""


@final
class OwnDocuments(nn.Module):
    """Which of a lane's rows are here: `document` int64 of all its rows to those of the `rows` rows at hand."""

    def forward(self, document: Tensor, _rows: int) -> Tensor:
        return document


@final
class OwnRows(nn.Module):
    """How many of the `rows` rows at hand are this process's own, which features of other modules reach."""

    def forward(self, rows: int) -> int:
        return rows


@final
class LaneSum(nn.Identity):
    """Counts of a process's rows to counts of all rows of its documents; takes no part in autograd."""


@final
class WholeLane(nn.Identity):
    """Before a module that sees whole images: the patches of all of its lane's, which need no gradient."""


@final
class OwnShare(nn.Identity):
    """After a module whose rows every process of a lane computes alike: those that this process hands on."""
