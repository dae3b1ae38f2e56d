"""In what the tensors of two folders differ, read piece by piece."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterpoint.convert.links import Place
from counterpoint.errors import CheckpointError
from counterpoint.inspection.contents import Contents
from counterpoint.inspection.inspect import open_contents
from counterpoint.inspection.names import NamedTensor, in_common_names
from counterpoint.train.warm.folders import FolderKind

_PIECE_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A tensor of both folders that differs: in its shape, its dtype, or its values.

    `absolute` is the largest difference of two elements, `relative` the largest one divided by the larger of the two
    magnitudes; both are None where shapes differ, and infinite where only one is a number.
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str | None, str | None]
    absolute: float | None
    relative: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What two folders have in common, and in what they differ. `mapped`: names are ours, since kinds differ."""

    a: str
    b: str
    mapped: bool
    compared: int
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    different: tuple[TensorDifference, ...]

    @property
    def is_equal(self) -> bool:
        """Whether names, shapes, dtypes and all values are the same."""
        return not (self.only_in_a or self.only_in_b or self.different)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data; infinite differences are strings, which JSON has."""
        found = asdict(self) | {"equal": self.is_equal}
        for one in found["different"]:
            for key in ("absolute", "relative"):
                one[key] = one[key] if one[key] is None or math.isfinite(one[key]) else str(one[key])
        return found


def diff(a: Path, b: Path) -> Difference:
    """Compare the tensors of two runs, checkpoints, Hugging Face folders or checkpoints of other programs.

    Folders of a kind are compared as they are, others by the names that tensors have here, without their dtypes.
    Raises CheckpointError.
    """
    first, second = _opened(a), _opened(b)
    ours, theirs = in_common_names(first, second)
    common = [name for name in ours if name in theirs]
    return Difference(
        a=str(a),
        b=str(b),
        mapped=any(one.dtype is None for one in (*ours.values(), *theirs.values())),
        compared=len(common),
        only_in_a=tuple(sorted(ours.keys() - theirs.keys())),
        only_in_b=tuple(sorted(theirs.keys() - ours.keys())),
        different=tuple(found for name in common if (found := _compare(name, ours[name], theirs[name])) is not None),
    )


def _opened(path: Path) -> Contents:
    """A folder of which every tensor can be read; those of a checkpoint are told as they are read."""
    found = open_contents(path)
    if found.kind is FolderKind.HUB and found.problems:
        raise CheckpointError(f"{found.problems[0]}, expected a whole folder; copy it from the model again")
    return found


def _compare(name: str, one: NamedTensor, other: NamedTensor) -> TensorDifference | None:
    shapes, dtypes = (one.shape, other.shape), (one.dtype, other.dtype)
    if one.shape != other.shape:
        return TensorDifference(name, shapes, dtypes, None, None)
    absolute = relative = 0.0
    for place in _pieces(one.shape):
        largest = _distances(one.read(place), other.read(place))
        absolute, relative = max(absolute, largest[0]), max(relative, largest[1])
    if absolute == 0 and one.dtype == other.dtype:
        return None
    return TensorDifference(name, shapes, dtypes, absolute, relative)


def _pieces(shape: tuple[int, ...]) -> Iterator[Place]:
    """Runs of rows that together are the whole, none of them large unless a row is."""
    if not shape:
        yield ()
        return
    rows = max(1, _PIECE_ELEMENTS // max(1, math.prod(shape[1:])))
    others = tuple(slice(0, size) for size in shape[1:])
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *others)


def _distances(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest absolute and relative difference of two elements; equal infinities and two NaN do not differ."""
    if not one.numel():
        return 0.0, 0.0
    a, b = one.to(torch.float64), other.to(torch.float64)
    # Large integers are told apart in their own type; small floats have no common type with others.
    is_equal = one == other if one.dtype == other.dtype else a == b
    is_same = is_equal | (a.isnan() & b.isnan())
    apart = torch.where(is_same, 0.0, (a - b).abs()).nan_to_num(nan=math.inf, posinf=math.inf)
    larger = torch.maximum(a.abs(), b.abs())
    relative = torch.where(is_same, 0.0, apart / larger).nan_to_num(nan=math.inf, posinf=math.inf)
    return float(apart.max()), float(relative.max())
