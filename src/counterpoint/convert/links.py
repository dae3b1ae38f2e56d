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

    def their_piece(self, name: str, place: Place, read: Read) -> Tensor:
        """A piece of their tensor `name`, where `read` reads ours; only the rows that it needs are read.

        A link that has no shorter way reads all of its tensors.
        """
        whole = self.to_theirs([read(one, None) for one in self.ours])
        return whole[self.theirs.index(name)][place]

    def unchanged(self, _name: str, _place: Place, _read_ours: Read, _read_theirs: Read) -> Tensor | None:
        """Which elements of a piece of theirs already say what ours holds, though the way back might not find them.

        None for links that only move values: there the way back finds them.
        """
        return None

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

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        return read(self.ours[0], place)


@final
@dataclass(frozen=True)
class PlusOne(Link):
    """Factors that the checkpoint stores minus one."""

    ours: tuple[str]
    theirs: tuple[str]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        return [_wide(tensor) + 1]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (tensor,) = tensors
        return [tensor - 1]

    def piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (piece,) = self.to_ours([read(self.theirs[0], place)])
        return piece

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        return read(self.ours[0], place) - 1

    def unchanged(self, name: str, place: Place, read_ours: Read, read_theirs: Read) -> Tensor:
        """Sums drop digits of small numbers, which their difference does not bring back."""
        ours = read_ours(self.ours[0], place)
        return ours == self.piece(name, place, read_theirs).to(ours.dtype)

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

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        others = [one for dim, one in enumerate(place) if dim != self._extra]
        pieces, before = [], 0
        for name, rows in zip(self.ours, self.rows, strict=True):
            start, stop = max(others[0].start - before, 0), min(others[0].stop - before, rows)
            if start < stop:
                pieces.append(read(name, (slice(start, stop), *others[1:])))
            before += rows
        joined = torch.cat(pieces)
        return joined if self._extra is None else joined.unsqueeze(self._extra)

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

    def their_piece(self, name: str, place: Place, read: Read) -> Tensor:
        number = self.theirs.index(name)
        return read(self.ours[0], (slice(number, number + 1), *place))[0]


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

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        further = len(self.their_shape) - len(self.our_shape)
        if further > 0 and self.their_shape[further:] == self.our_shape:
            return read(self.ours[0], place[further:])[(None,) * further]
        rows = read(self.ours[0], (place[0], *(slice(None) for _ in self.our_shape[1:])))
        return rows.reshape(len(rows), *self.their_shape[1:])[:, *place[1:]]


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

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (rows,) = self.to_theirs([read(self.ours[0], (place[0], slice(None)))])
        return rows[:, place[1]]


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

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        (rows,) = self.to_theirs([read(self.ours[0], (place[0], slice(None)))])
        return rows[:, *place[1:]]


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
        return [_wide(token) + positions[:1], positions[1:]]

    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        (token, table), (rows, columns) = self.theirs, place
        if name == self.ours[1]:
            return read(table, (slice(rows.start + 1, rows.stop + 1), columns))
        return (_wide(read(token, (columns,))) + read(table, (slice(0, 1), columns)))[rows]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        row, positions = tensors
        return [row.squeeze(0), torch.cat([torch.zeros_like(row), positions])]

    def their_piece(self, name: str, place: Place, read: Read) -> Tensor:
        (row, positions), rows = self.ours, place[0]
        if name == self.theirs[0]:
            return read(row, (slice(0, 1), place[0]))[0]
        there = read(positions, (slice(max(rows.start - 1, 0), rows.stop - 1), place[1]))
        return there if rows.start else torch.cat([there.new_zeros(1, there.shape[1]), there])

    def unchanged(self, name: str, place: Place, read_ours: Read, read_theirs: Read) -> Tensor:
        """One learned row does not say which two it is the sum of."""
        row, columns = (slice(0, 1), place[-1]), place[-1]
        ours = read_ours(self.ours[0], row)
        is_same = ours == self.piece(self.ours[0], row, read_theirs).to(ours.dtype)
        if name == self.theirs[0]:
            return is_same[0]
        found = torch.zeros(place[0].stop - place[0].start, columns.stop - columns.start, dtype=torch.bool)
        if place[0].start == 0:
            found[0] = is_same[0]
        return found

    def gradients_to_ours(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Either term of a sum has the sum's gradient."""
        _token, positions = gradients
        return [positions[:1], positions[1:]]


@final
@dataclass(frozen=True)
class Halves(Link):
    """Two stacks of matrices of ours, concatenated in one of theirs: matrix by matrix, the rows of both."""

    ours: tuple[str, str]
    theirs: tuple[str]
    rows: int

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (both,) = tensors
        return list(torch.split(both, self.rows, dim=1))

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat(list(tensors), dim=1)]

    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        before, (stack, rows, columns) = self.rows * self.ours.index(name), place
        return read(self.theirs[0], (stack, slice(before + rows.start, before + rows.stop), columns))

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        pieces, (stack, rows, columns) = [], place
        for name, before in zip(self.ours, (0, self.rows), strict=True):
            start, stop = max(rows.start - before, 0), min(rows.stop - before, self.rows)
            if start < stop:
                pieces.append(read(name, (stack, slice(start, stop), columns)))
        return torch.cat(pieces, dim=1)


@final
@dataclass(frozen=True)
class Filled(Link):
    """A tensor of ours that the checkpoint need not have: then all of its elements have one value."""

    ours: tuple[str]
    shape: tuple[int, ...]
    value: float
    theirs: tuple[()] = ()

    def to_ours(self, _tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.full(self.shape, self.value, dtype=torch.float64)]

    def to_theirs(self, _tensors: Sequence[Tensor]) -> list[Tensor]:
        return []

    def piece(self, _name: str, place: Place, _read: Read) -> Tensor:
        return torch.full([one.stop - one.start for one in place], self.value, dtype=torch.float64)


def _wide(tensor: Tensor) -> Tensor:
    """A term of a sum: in narrow numbers the sum would be rounded, and once more in the parameter's dtype."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def their_tensors(links: Iterable[Link], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that these links make of ours."""
    return {
        name: tensor
        for link in links
        for name, tensor in zip(link.theirs, link.to_theirs([ours[n] for n in link.ours]), strict=True)
    }
