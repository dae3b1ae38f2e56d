"""Muon for the shards of one rank: owners gather matrices, orthogonalise them, and return the pieces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from counterpoint.optimizers.adamw.choice import adamw_update
from counterpoint.optimizers.adamw.update import is_exempt
from counterpoint.optimizers.muon.matrices import (
    Matrix,
    Parcel,
    Round,
    matrices_of,
    rounds_of,
    to_holders,
    to_owners,
    travels,
    with_owners,
)
from counterpoint.optimizers.muon.orthogonal import orthogonalized
from counterpoint.optimizers.muon.spec import MOMENTUM, MuonSection, is_hidden_matrix
from counterpoint.optimizers.shard import Shard, Team

_ROUND = 2**24
"""Most elements of whole matrices that an owner gathers in one round, unless a single matrix has more; 32 MiB in
bfloat16."""


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A rank's shard of a hidden matrix or a stack of them, the running mean of its gradient, and its weight decay."""

    shard: Shard
    momentum: torch.Tensor
    decay: float


class MuonUpdate:
    """Muon for one module's shards on a rank, and AdamW for shards of other parameters.

    All ranks of the team step together: each round of matrices takes two all-to-alls.
    """

    def __init__(self, section: MuonSection, shards: Sequence[Shard], team: Team) -> None:
        self._section, self._team, self._shards = section, team, tuple(shards)
        hidden = [shard for shard in shards if is_hidden_matrix(section, shard.name, shard.whole)]
        others = [shard for shard in shards if not is_hidden_matrix(section, shard.name, shard.whole)]
        self._others = adamw_update(section.others, others, team) if others else None
        self._hidden = {
            shard.name: _Hidden(shard, torch.zeros_like(shard.values), _decay(section, shard)) for shard in hidden
        }
        matrices = (
            matrix
            for name, spread in team.spreads.items()
            if is_hidden_matrix(section, name, spread.whole)
            for matrix in matrices_of(name, spread.whole, spread.pieces)
        )
        self._rounds = [_RoundExchange(one, team) for one in rounds_of(with_owners(matrices), _ROUND)]

    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        directions: dict[str, torch.Tensor] = {}
        of_others: list[torch.Tensor] = []
        for shard, gradient in zip(self._shards, gradients, strict=True):
            if shard.name in self._hidden:
                directions[shard.name] = self._direction(self._hidden[shard.name], gradient, is_broken)
            else:
                of_others.append(gradient)
        if self._others is not None:
            self._others.step(of_others, lr, is_broken)
        for trip in self._rounds:
            for parcel, orthogonal in trip.run(directions, self._view_of, self._orthogonalized):
                self._move(parcel, orthogonal, lr, is_broken)

    def moments(self) -> list[Mapping[str, torch.Tensor]]:
        others = iter(() if self._others is None else self._others.moments())
        hidden = self._hidden
        return [{MOMENTUM: hidden[s.name].momentum} if s.name in hidden else next(others) for s in self._shards]

    def set_step(self, step: int) -> None:
        if self._others is not None:
            self._others.set_step(step)

    def _direction(self, hidden: _Hidden, gradient: torch.Tensor, is_broken: torch.Tensor) -> torch.Tensor:
        """The (Nesterov) momentum of a shard, in the compute dtype."""
        weight = 1.0 - self._section.momentum
        momentum = torch.lerp(hidden.momentum, gradient, weight)
        hidden.momentum.copy_(torch.where(is_broken, hidden.momentum, momentum))
        direction = torch.lerp(momentum, gradient, weight) if self._section.nesterov else momentum
        return direction.to(self._team.compute)

    def _orthogonalized(self, matrices: torch.Tensor) -> torch.Tensor:
        return orthogonalized(matrices, self._section.iterations, self._section.eps)

    def _move(self, parcel: Parcel, orthogonal: torch.Tensor, lr: float, is_broken: torch.Tensor) -> None:
        """Update a rank's piece of a matrix; the update's root mean square over the whole matrix is about `rms`."""
        hidden = self._hidden[parcel.matrix.name]
        values = self._view_of(parcel.matrix, hidden.shard.values)
        scale = self._section.rms * max(parcel.matrix.shape) ** 0.5
        moved = values * (1.0 - lr * hidden.decay) - orthogonal.to(values.dtype) * (lr * scale)
        values.copy_(torch.where(is_broken, values, moved))

    def _view_of(self, matrix: Matrix, local: torch.Tensor) -> torch.Tensor:
        """A view of this rank's piece of a matrix in a local tensor of its parameter."""
        piece = self._hidden[matrix.name].shard.piece
        inside = local[tuple(slice(0, extent) for extent in piece.shape)]
        return inside if matrix.index is None else inside[matrix.index - piece.offset[0]]


_View = Callable[[Matrix, torch.Tensor], torch.Tensor]
_Make = Callable[[torch.Tensor], torch.Tensor]


class _RoundExchange:
    """A round on this rank: pieces are sent to owners, and pieces of orthogonalised matrices are received."""

    def __init__(self, matrices: Round, team: Team) -> None:
        self._team, self._ranks = team, len(matrices[0].pieces)
        self._group = team.group if travels(matrices) else None
        self._there, self._back = to_owners(matrices, team.rank), to_holders(matrices, team.rank)
        owned = [matrix for matrix in matrices if matrix.owner == team.rank]
        shapes = dict.fromkeys(matrix.shape for matrix in owned)
        self._alike = [[matrix for matrix in owned if matrix.shape == shape] for shape in shapes]

    def run(
        self, directions: dict[str, torch.Tensor], view_of: _View, make: _Make
    ) -> Iterator[tuple[Parcel, torch.Tensor]]:
        """Yield this rank's pieces of the round's matrices after `make` has orthogonalised the whole matrices."""
        wholes: dict[tuple[str, int | None], torch.Tensor] = {}
        for matrices in self._alike:
            stack = self._new((len(matrices), *matrices[0].shape))
            wholes |= {matrix.key: one for matrix, one in zip(matrices, stack.unbind(), strict=True)}
        sent, received = self._there
        pieces = [view_of(parcel.matrix, directions[parcel.matrix.name]) for parcel in sent]
        for parcel, piece in zip(received, self._exchange(pieces, sent, received), strict=True):
            _box(wholes[parcel.matrix.key], parcel).copy_(piece)
        for matrices in self._alike:
            made = make(torch.stack([wholes[matrix.key] for matrix in matrices]))
            wholes |= {matrix.key: one for matrix, one in zip(matrices, made.unbind(), strict=True)}
        sent, received = self._back
        pieces = [_box(wholes[parcel.matrix.key], parcel) for parcel in sent]
        yield from zip(received, self._exchange(pieces, sent, received), strict=True)

    def _exchange(
        self, pieces: list[torch.Tensor], sent: list[Parcel], received: list[Parcel]
    ) -> Iterator[torch.Tensor]:
        """Send `pieces` and return the received pieces, each in its shape."""
        flat = torch.cat([self._new((0,)), *(piece.reshape(-1) for piece in pieces)])
        if self._group is not None:
            give, take = self._counts(sent), self._counts(received)
            arrived = self._new((sum(take),))
            dist.all_to_all_single(arrived, flat, take, give, group=self._group)
            flat = arrived
        parts = torch.split(flat, [parcel.piece.elements for parcel in received])
        return (part.view(parcel.piece.shape) for part, parcel in zip(parts, received, strict=True))

    def _counts(self, parcels: list[Parcel]) -> list[int]:
        """Number of elements by rank."""
        counts = [0] * self._ranks
        for parcel in parcels:
            counts[parcel.peer] += parcel.piece.elements
        return counts

    def _new(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape, dtype=self._team.compute, device=self._team.device)


def _box(whole: torch.Tensor, parcel: Parcel) -> torch.Tensor:
    """A view of a piece of a whole matrix."""
    (row, column), (rows, columns) = parcel.piece
    return whole[row : row + rows, column : column + columns]


def _decay(section: MuonSection, shard: Shard) -> float:
    return 0.0 if is_exempt(section.others, shard.name, len(shard.whole)) else section.weight_decay
