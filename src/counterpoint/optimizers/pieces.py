"""Which piece of a parameter a rank holds, as optimizers need it."""

from math import prod
from typing import NamedTuple


class Piece(NamedTuple):
    """The box `[offset, offset + shape)` of a parameter; it may be empty."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Elements of the box."""
        return prod(self.shape)
