"""Which rank orthogonalises which matrix, when, and what the ranks send each other for it: integers alone.

A matrix is a parameter of two dimensions as checkpoints name it, or one expert's of a stack; how its pieces lie on
ranks makes no difference to what it is. One of the ranks that hold a piece of it is its owner.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from counterpoint.optimizers.pieces import Piece


@dataclass(frozen=True, slots=True)
class Matrix:
    """The parameter `name`, or its entry `index` where it is a stack, of the shape (outputs, inputs).

    `pieces` are by rank, None of a rank that holds nothing of it; those of two ranks are equal or have no element in
    common.
    """

    name: str
    index: int | None
    shape: tuple[int, int]
    pieces: tuple[Piece | None, ...]
    owner: int = 0

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells it from others."""
        return self.name, self.index

    @property
    def elements(self) -> int:
        """Elements of the whole matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def cost(self) -> int:
        """What orthogonalising it takes, up to a factor that all matrices have."""
        return self.elements * min(self.shape)

    @property
    def holders(self) -> tuple[int, ...]:
        """The ranks that hold a piece of it."""
        return tuple(rank for rank, piece in enumerate(self.pieces) if piece is not None)

    @property
    def givers(self) -> tuple[int, ...]:
        """Of the ranks that hold the same piece one, which gives it to the owner: the owner itself or the first."""
        first: dict[Piece | None, int] = {self.pieces[self.owner]: self.owner}
        for rank in self.holders:
            first.setdefault(self.pieces[rank], rank)
        return tuple(sorted(first.values()))


Round = tuple[Matrix, ...]
"""Matrices that travel together."""


class Parcel(NamedTuple):
    """A piece of a matrix that goes to a rank, or comes from it."""

    matrix: Matrix
    peer: int
    piece: Piece


def matrices_of(name: str, whole: tuple[int, ...], pieces: Sequence[Piece]) -> Iterator[Matrix]:
    """The matrices of a parameter: itself, or those of a stack, in order."""
    if len(whole) == 2:
        yield Matrix(name, None, (whole[0], whole[1]), tuple(piece if piece.elements else None for piece in pieces))
        return
    for index in range(whole[0]):
        yield Matrix(name, index, (whole[1], whole[2]), tuple(_entry(piece, index) for piece in pieces))


def _entry(piece: Piece, index: int) -> Piece | None:
    """What a piece of a stack has of one of its matrices."""
    if not piece.elements or not piece.offset[0] <= index < piece.offset[0] + piece.shape[0]:
        return None
    return Piece(piece.offset[1:], piece.shape[1:])


def with_owners(matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    """Matrices from the costliest on, each owned by the holder that has least to do so far.

    So what a rank holds whole, and alone, goes nowhere.
    """
    loads: dict[int, int] = {}
    owned = []
    for matrix in sorted(matrices, key=lambda matrix: -matrix.cost):
        owner = min(matrix.holders, key=lambda rank: (loads.get(rank, 0), rank))
        loads[owner] = loads.get(owner, 0) + matrix.cost
        owned.append(replace(matrix, owner=owner))
    return tuple(owned)


def rounds_of(matrices: Iterable[Matrix], most: int) -> tuple[Round, ...]:
    """Rounds in each of which an owner has one matrix, or several of up to `most` elements together.

    This bounds the memory of whole matrices; no rank waits for others but in a round that both are in.
    """
    rounds: list[list[Matrix]] = []
    place: dict[int, tuple[int, int]] = {}
    for matrix in matrices:
        number, filled = place.get(matrix.owner, (0, 0))
        if filled and filled + matrix.elements > most:
            number, filled = number + 1, 0
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(matrix)
        place[matrix.owner] = number, filled + matrix.elements
    return tuple(map(tuple, rounds))


def travels(matrices: Round) -> bool:
    """Whether anything of a round goes from one rank to another."""
    return any(matrix.holders != (matrix.owner,) for matrix in matrices)


def to_owners(matrices: Round, rank: int) -> tuple[list[Parcel], list[Parcel]]:
    """What a rank sends so that owners have whole matrices, and what it receives, each by peer."""
    sent = [Parcel(m, m.owner, piece) for m in matrices if (piece := m.pieces[rank]) is not None and rank in m.givers]
    owned = [m for m in matrices if m.owner == rank]
    received = [Parcel(m, peer, piece) for m in owned for peer in m.givers if (piece := m.pieces[peer]) is not None]
    return _by_peer(sent), _by_peer(received)


def to_holders(matrices: Round, rank: int) -> tuple[list[Parcel], list[Parcel]]:
    """What a rank sends so that all who hold a piece of its matrices have it back, and what it receives, by peer."""
    owned = [m for m in matrices if m.owner == rank]
    sent = [Parcel(m, peer, piece) for m in owned for peer in m.holders if (piece := m.pieces[peer]) is not None]
    received = [Parcel(m, m.owner, piece) for m in matrices if (piece := m.pieces[rank]) is not None]
    return _by_peer(sent), _by_peer(received)


def _by_peer(parcels: list[Parcel]) -> list[Parcel]:
    """Parcels by peer; those of one peer in the order of the round, which is the same on both ends."""
    return sorted(parcels, key=lambda parcel: parcel.peer)
