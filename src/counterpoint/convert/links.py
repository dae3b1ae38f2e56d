"""Links between our tensors and those of a checkpoint. Almost all only move values, so gradients move the same way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, final

import torch
from torch import Tensor

Place = tuple[slice, ...]
"""Where a piece lies in a tensor: a slice for each dim."""

Read = Callable[[str, Place | None], Tensor]
"""Reads a piece of a checkpoint's tensor by its name, None for all of it."""


class Link(ABC):
    """Some tensors of ours and the tensors of a checkpoint that hold the same values."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]

    @abstractmethod
    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors named `theirs` -> those named `ours`."""

    @abstractmethod
    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors named `ours` -> those named `theirs`."""

    @abstractmethod
    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        """A piece of our tensor `name`; only the rows that it needs are read."""

    def gradients_to_ours(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients by the tensors named `theirs` -> those by the tensors named `ours`."""
        return self.to_ours(gradients)

    def respelled(self, spell: Callable[[str], str]) -> "Link":
        """The same link to tensors with differently spelled names."""
        link: Link = replace(cast(Any, self), theirs=tuple(spell(name) for name in self.theirs))
        return link


@final
@dataclass(frozen=True)
class Same(Link):
    """One tensor under two names."""

    ours: tuple[str]
    theirs: tuple[str]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        return read(self.theirs[0], place)


@final
@dataclass(frozen=True)
class PlusOne(Link):
    """Factors that the checkpoint stores minus one."""

    ours: tuple[str]
    theirs: tuple[str]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        # Narrow numbers near zero are finer than those near one.
        return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) + 1]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        return [tensor - 1]

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (piece,) = self.to_ours([read(self.theirs[0], place)])
        return piece

    def gradients_to_ours(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Adding one leaves a gradient as it is."""
        return list(gradients)


@final
@dataclass(frozen=True)
class Joined(Link):
    """Our tensors, with `rows` rows each, concatenated in one tensor of theirs.

    A `depthwise` one, (channels, width) of ours, has a dimension of one input channel: (channels, 1, width); a
    `pointwise` one, (outputs, inputs) of ours, a width of one: (outputs, inputs, 1).
    """

    ours: tuple[str, ...]
    theirs: tuple[str]
    rows: tuple[int, ...]
    depthwise: bool = False
    pointwise: bool = False

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (joined,) = tensors
        return list(torch.split(joined if self._extra is None else joined.squeeze(self._extra), list(self.rows)))

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        joined = torch.cat(list(tensors))
        return [joined if self._extra is None else joined.unsqueeze(self._extra)]

    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        before = sum(self.rows[: self.ours.index(name)])
        rows = slice(before + place[0].start, before + place[0].stop)
        there = [rows, *place[1:]]
        if self._extra is None:
            return read(self.theirs[0], tuple(there))
        there.insert(self._extra, slice(0, 1))
        return read(self.theirs[0], tuple(there)).squeeze(self._extra)

    @property
    def _extra(self) -> int | None:
        """The dimension of size one that only their tensors have."""
        return 1 if self.depthwise else 2 if self.pointwise else None


@final
@dataclass(frozen=True)
class Stacked(Link):
    """One tensor of ours stacks several of theirs, of one shape, along a new first dimension."""

    ours: tuple[str]
    theirs: tuple[str, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.stack(list(tensors))]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (stacked,) = tensors
        return list(stacked.unbind())

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        return torch.stack([read(one, place[1:]) for one in self.theirs[place[0]]])


@final
@dataclass(frozen=True)
class Reshaped(Link):
    """One tensor reshaped: with the same number of rows, or with further leading dimensions of size one."""

    ours: tuple[str]
    theirs: tuple[str]
    our_shape: tuple[int, ...]
    their_shape: tuple[int, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        # With another number of values the shape stays as it is and is refused later, by name.
        return [tensor.reshape(self.our_shape) if tensor.shape == self.their_shape else tensor]

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        further = len(self.their_shape) - len(self.our_shape)
        if further > 0 and self.their_shape[further:] == self.our_shape:
            return read(self.theirs[0], (*(slice(0, 1),) * further, *place))[(0,) * further]
        rows = read(self.theirs[0], (place[0], *(slice(None) for _ in self.their_shape[1:])))
        return rows.reshape(len(rows), *self.our_shape[1:])[:, *place[1:]]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        return [tensor.reshape(self.their_shape)]


@final
@dataclass(frozen=True)
class ChannelsLast(Link):
    """A matrix that reads patches (channel, row, column) of ours and (row, column, channel) of theirs."""

    ours: tuple[str]
    theirs: tuple[str]
    channels: int

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (matrix,) = tensors
        return [matrix.reshape(len(matrix), -1, self.channels).transpose(1, 2).flatten(1)]

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (rows,) = self.to_ours([read(self.theirs[0], (place[0], slice(None)))])
        return rows[:, place[1]]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (matrix,) = tensors
        return [matrix.reshape(len(matrix), self.channels, -1).transpose(1, 2).flatten(1)]


@final
@dataclass(frozen=True)
class ByTap(Link):
    """A filter (outputs, inputs, taps) of theirs is a matrix (outputs, taps x inputs) of ours, tap by tap."""

    ours: tuple[str]
    theirs: tuple[str]
    inputs: int

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (filters,) = tensors
        return [filters.transpose(1, 2).flatten(1)]

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (rows,) = self.to_ours([read(self.theirs[0], (place[0], slice(None), slice(None)))])
        return rows[:, place[1]]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (matrix,) = tensors
        return [matrix.reshape(len(matrix), -1, self.inputs).transpose(1, 2)]


@final
@dataclass(frozen=True)
class ClassRow(Link):
    """A class token and the first position, which theirs always adds to it, are one learned row of ours.

    Theirs are a vector and a table of positions; ours a table of one row and the table without its first. On the way
    back that first position is zero.
    """

    ours: tuple[str, str]
    theirs: tuple[str, str]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        token, positions = tensors
        return [token + positions[:1], positions[1:]]

    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        (token, table), (rows, columns) = self.theirs, place
        if name == self.ours[1]:
            return read(table, (slice(rows.start + 1, rows.stop + 1), columns))
        return (read(token, (columns,)) + read(table, (slice(0, 1), columns)))[rows]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        row, positions = tensors
        return [row.squeeze(0), torch.cat([torch.zeros_like(row), positions])]

    def gradients_to_ours(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Either term of a sum has the sum's gradient."""
        _token, positions = gradients
        return [positions[:1], positions[1:]]


def their_tensors(links: Iterable[Link], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that these links make of ours."""
    return {
        name: tensor
        for link in links
        for name, tensor in zip(link.theirs, link.to_theirs([ours[n] for n in link.ours]), strict=True)
    }
