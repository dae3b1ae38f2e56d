"""Places where rows change their distribution: the identity, until parallelize/ replaces it."""

from typing import final

from torch import nn


@final
class Enter(nn.Identity):
    """Before the first linears of a sublayer: their input, rows (rows, hidden)."""


@final
class Leave(nn.Identity):
    """After the last linear of a sublayer and before its bias: a sum over the features that it consumed."""


@final
class LookupLeave(nn.Identity):
    """After the lookup of words: a sum over the pieces of the vocabulary."""


@final
class StageEnter(nn.Identity):
    """The rows that come into a run of parts."""


@final
class StageLeave(nn.Identity):
    """The rows that a run of parts hands on."""
