"""Which piece of a global tensor a rank holds: the basis of initial values, checkpoints, norms and comparisons."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Reduction = Literal["shard", "partial", "duplicate"]
"""What the ranks of a tensor-parallel group hold of a parameter and of its gradient.

`shard`: each rank its own piece, its gradient complete. `partial`: the same values, gradients to be summed, on all
ranks or on those that hold the same of several pieces. `duplicate`: the same values and the same gradients.
"""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a parameter of this global, unpadded shape is sharded over tensor-parallel ranks.

    `dim` is cut into a piece for each rank, or, `partial`, into fewer `pieces`, each held by consecutive ranks.
    """

    global_shape: tuple[int, ...]
    reduction: Reduction
    dim: int | None = None
    pieces: int | None = None

    def local_shape(self, size: int) -> tuple[int, ...]:
        """The shape on each of `size` ranks: equal pieces, the last ones padded if it does not divide."""
        shape = list(self.global_shape)
        if self.dim is not None:
            shape[self.dim] = -(-shape[self.dim] // self.pieces_among(size))
        return tuple(shape)

    def pieces_among(self, size: int) -> int:
        """Number of different pieces that `size` ranks hold."""
        if self.dim is None:
            return 1
        return size if self.pieces is None else self.pieces


@dataclass(frozen=True, slots=True)
class Block:
    """The piece `[offset, offset + shape)` of a global tensor, held at the front of a local tensor.

    Elements of the local tensor beyond `shape` are padding and zero. Of a tensor that is not `shard` each of `pieces`
    is held by equally many tensor-parallel ranks, one after the other.
    """

    name: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    reduction: Reduction
    pieces: int = 1

    @property
    def numel(self) -> int:
        """Elements of the block, without padding."""
        return math.prod(self.shape)

    @property
    def local_slices(self) -> tuple[slice, ...]:
        """The block's slices of the local tensor."""
        return tuple(slice(0, extent) for extent in self.shape)

    @property
    def global_slices(self) -> tuple[slice, ...]:
        """The block's slices of the global tensor."""
        return tuple(slice(start, start + n) for start, n in zip(self.offset, self.shape, strict=True))

    def tensor_copies(self, size: int) -> int:
        """Number of the `size` tensor-parallel ranks that hold this same block."""
        return 1 if self.reduction == "shard" else size // self.pieces


@dataclass(frozen=True, slots=True)
class Cut:
    """Piece number `index` of `count` pieces of the rounded-up size along a dim.

    The last pieces are shorter or empty, as `torch.chunk` and FSDP2 make them, or `padded` to the size of the others.
    """

    dim: int
    index: int
    count: int
    padded: bool = False


def cut_block(
    name: str, global_shape: tuple[int, ...], cuts: Iterable[Cut], reduction: Reduction, pieces: int = 1
) -> Block:
    """A rank's block of a global tensor after one cut after another."""
    offset, local = [0] * len(global_shape), list(global_shape)
    for cut in cuts:
        whole = local[cut.dim]
        piece = -(-whole // cut.count)
        start = cut.index * piece if cut.padded else min(cut.index * piece, whole)
        offset[cut.dim] += start
        local[cut.dim] = piece if cut.padded else min(piece, whole - start)
    # Padding is at the end of the global dim, so a clipped piece is shorter but has no hole.
    inside = tuple(min(start, extent) for start, extent in zip(offset, global_shape, strict=True))
    shape = tuple(min(n, extent - start) for n, start, extent in zip(local, inside, global_shape, strict=True))
    return Block(name, global_shape, inside, shape, reduction, pieces)


def block_of(name: str, sharding: Sharding, tp_rank: int, tp_size: int, shard_rank: int, shard_size: int) -> Block:
    """The block of a rank: FSDP2's chunk, along dim 0, of its tensor-parallel piece."""
    pieces = sharding.pieces_among(tp_size)
    cuts = [] if sharding.dim is None else [Cut(sharding.dim, tp_rank * pieces // tp_size, pieces, padded=True)]
    if sharding.global_shape:
        cuts.append(Cut(0, shard_rank, shard_size))
    return cut_block(name, sharding.global_shape, cuts, sharding.reduction, 1 if sharding.pieces is None else pieces)


def whole_block(name: str, shape: tuple[int, ...]) -> Block:
    """The block of a process that holds a whole tensor."""
    return block_of(name, Sharding(shape, "duplicate"), tp_rank=0, tp_size=1, shard_rank=0, shard_size=1)
