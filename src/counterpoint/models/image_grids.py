"""Packed image rows as grids (images, height, width, ...) of one size each, and back.

A place is an image's first row, its height and its width. Its rows are ordered in groups of merge x merge neighbours.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

Place = tuple[int, int, int]


def by_size(images: Iterable[Place]) -> list[list[Place]]:
    """Images grouped by size, smaller sizes first."""
    size = itemgetter(1, 2)
    return [list(alike) for _size, alike in groupby(sorted(images, key=size), key=size)]


def stacked(rows: Tensor, images: Sequence[Place]) -> Tensor:
    """The rows (rows, ...) of images of one size -> (images, height * width, ...)."""
    return torch.stack([rows.narrow(0, row, height * width) for row, height, width in images])


def as_grids(stack: Tensor, height: int, width: int, merge: int) -> Tensor:
    """Stacked rows (images, height * width, ...) -> (images, height, width, ...)."""
    count, _rows, *rest = stack.shape
    grouped = stack.view(count, height // merge, width // merge, merge, merge, *rest)
    return grouped.transpose(2, 3).reshape(count, height, width, *rest)


def as_stack(grids: Tensor, merge: int) -> Tensor:
    """The inverse of `as_grids`: (images, height, width, ...) -> (images, height * width, ...)."""
    count, height, width, *rest = grids.shape
    grouped = grids.reshape(count, height // merge, merge, width // merge, merge, *rest)
    return grouped.transpose(2, 3).reshape(count, height * width, *rest)


def laid(made: Mapping[int, Tensor], rows: Tensor) -> Tensor:
    """`rows` with the rows of images replaced by `made`, whose keys are the first rows of the images."""
    pieces, end = [], 0
    for row, piece in sorted(made.items(), key=itemgetter(0)):
        pieces += [rows[end:row], piece]
        end = row + len(piece)
    return torch.cat([*pieces, rows[end:]])
