"""The plan of Muon's communication: which rank orthogonalises which matrix in which round, and all sends and receives.

A matrix is a two-dimensional parameter, as named in checkpoints, or one expert's matrix of a stack. One of the ranks
that hold a piece of a matrix is its owner.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from counterpoint.optimizers.pieces import Piece


@dataclass(frozen=True, slots=True)
class Matrix:
    """The parameter `name`, or entry `index` of it if it is a stack, of shape (outputs, inputs).

    `pieces` are by rank, None for a rank without an element; the pieces of two ranks are equal or disjoint.
    """

    name: str
    index: int | None
    shape: tuple[int, int]
    pieces: tuple[Piece | None, ...]
    owner: int = 0

    @property
    def key(self) -> tuple[str, int | None]:
        """Its identity among all matrices."""
        return self.name, self.index

    @property
    def elements(self) -> int:
        """Elements of the whole matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def cost(self) -> int:
        """The relative cost of orthogonalising it."""
        return self.elements * min(self.shape)

    @property
    def holders(self) -> tuple[int, ...]:
        """The ranks that hold a piece of it."""
        return tuple(rank for rank, piece in enumerate(self.pieces) if piece is not None)

    @property
    def givers(self) -> tuple[int, ...]:
        """For each distinct piece, the rank that sends it to the owner: the owner itself, or its first holder."""
        first: dict[Piece | None, int] = {self.pieces[self.owner]: self.owner}
        for rank in self.holders:
            first.setdefault(self.pieces[rank], rank)
        return tuple(sorted(first.values()))


Round = tuple[Matrix, ...]
"""Matrices that are exchanged in the same two all-to-alls."""


class Parcel(NamedTuple):
    """A piece of a matrix that is sent to a peer, or received from it."""

    matrix: Matrix
    peer: int
    piece: Piece


def matrices_of(name: str, whole: tuple[int, ...], pieces: Sequence[Piece]) -> Iterator[Matrix]:
    """The matrices of a parameter: one, or those of a stack in order."""
    if len(whole) == 2:
        yield Matrix(name, None, (whole[0], whole[1]), tuple(piece if piece.elements else None for piece in pieces))
        return
    for index in range(whole[0]):
        yield Matrix(name, index, (whole[1], whole[2]), tuple(_entry(piece, index) for piece in pieces))


def _entry(piece: Piece, index: int) -> Piece | None:
    """The part of a stack's piece that belongs to entry `index`, None if it has none."""
    if not piece.elements or not piece.offset[0] <= index < piece.offset[0] + piece.shape[0]:
        return None
    return Piece(piece.offset[1:], piece.shape[1:])


def with_owners(matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    """Matrices by descending cost, each owned by the least loaded rank that holds a piece of it.

    So a matrix that one rank holds alone is not sent.
    """
    loads: dict[int, int] = {}
    owned = []
    for matrix in sorted(matrices, key=lambda matrix: -matrix.cost):
        owner = min(matrix.holders, key=lambda rank: (loads.get(rank, 0), rank))
        loads[owner] = loads.get(owner, 0) + matrix.cost
        owned.append(replace(matrix, owner=owner))
    return tuple(owned)


def rounds_of(matrices: Iterable[Matrix], most: int) -> tuple[Round, ...]:
    """Rounds in each of which an owner has one matrix, or several with at most `most` elements together.

    This bounds the memory of whole matrices.
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
    """Whether a round sends anything between ranks."""
    return any(matrix.holders != (matrix.owner,) for matrix in matrices)


def to_owners(matrices: Round, rank: int) -> tuple[list[Parcel], list[Parcel]]:
    """The sends and receives of a rank that bring all pieces to their owners, each sorted by peer."""
    sent = [Parcel(m, m.owner, piece) for m in matrices if (piece := m.pieces[rank]) is not None and rank in m.givers]
    owned = [m for m in matrices if m.owner == rank]
    received = [Parcel(m, peer, piece) for m in owned for peer in m.givers if (piece := m.pieces[peer]) is not None]
    return _by_peer(sent), _by_peer(received)


def to_holders(matrices: Round, rank: int) -> tuple[list[Parcel], list[Parcel]]:
    """The sends and receives of a rank that return results from owners to all holders, each sorted by peer."""
    owned = [m for m in matrices if m.owner == rank]
    sent = [Parcel(m, peer, piece) for m in owned for peer in m.holders if (piece := m.pieces[peer]) is not None]
    received = [Parcel(m, m.owner, piece) for m in matrices if (piece := m.pieces[rank]) is not None]
    return _by_peer(sent), _by_peer(received)


def _by_peer(parcels: list[Parcel]) -> list[Parcel]:
    """Parcels sorted by peer; those of one peer keep the order of the round, which both ends share."""
    return sorted(parcels, key=lambda parcel: parcel.peer)
