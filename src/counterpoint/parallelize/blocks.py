"""Which piece of a global tensor a rank holds: behind values, checkpoints, norms and comparisons."""

import math
from dataclasses import dataclass
from typing import Literal

Reduction = Literal["shard", "partial", "duplicate"]
"""What the ranks of a tensor-parallel group hold of a parameter and of its gradient (design D9).

`shard`: each rank its own piece, its gradient complete. `partial`: the same values, gradients to be summed.
`duplicate`: the same values and the same gradients.
"""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a parameter of this global, unpadded shape lies on tensor-parallel ranks; `dim` is cut."""

    global_shape: tuple[int, ...]
    reduction: Reduction
    dim: int | None = None

    def local_shape(self, size: int) -> tuple[int, ...]:
        """The shape on each of `size` ranks: equal pieces, the last ones padded if it does not divide."""
        shape = list(self.global_shape)
        if self.dim is not None:
            shape[self.dim] = -(-shape[self.dim] // size)
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class Block:
    """The piece `[offset, offset + shape)` of a global tensor that lies at the front of a local tensor.

    What the local tensor holds beyond `shape` is padding and zero.
    """

    name: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    reduction: Reduction

    @property
    def numel(self) -> int:
        """Elements of the block, without padding."""
        return math.prod(self.shape)

    @property
    def local_slices(self) -> tuple[slice, ...]:
        """Where the block lies in the local tensor."""
        return tuple(slice(0, extent) for extent in self.shape)

    @property
    def global_slices(self) -> tuple[slice, ...]:
        """Where the block lies in the global tensor."""
        return tuple(slice(start, start + n) for start, n in zip(self.offset, self.shape, strict=True))

    def tensor_copies(self, size: int) -> int:
        """How many of the `size` tensor-parallel ranks hold this same block."""
        return 1 if self.reduction == "shard" else size


def block_of(name: str, sharding: Sharding, tp_rank: int, tp_size: int, shard_rank: int, shard_size: int) -> Block:
    """The block of a rank: its tensor-parallel piece, of which FSDP2 keeps the rank's chunk of dim 0.

    FSDP2 chunks as `torch.chunk` does: pieces of the rounded-up size, the last ones shorter or empty.
    """
    offset = [0] * len(sharding.global_shape)
    local = list(sharding.local_shape(tp_size))
    if sharding.dim is not None:
        offset[sharding.dim] = tp_rank * local[sharding.dim]
    if local:
        chunk = -(-local[0] // shard_size)
        start = min(shard_rank * chunk, local[0])
        offset[0] += start
        local[0] = min(chunk, local[0] - start)
    # Padding lies at the end of the global dim, so a clipped piece is a shorter one, never one with a hole.
    extents = sharding.global_shape
    inside = tuple(min(start, extent) for start, extent in zip(offset, extents, strict=True))
    shape = tuple(min(n, extent - start) for n, start, extent in zip(local, inside, extents, strict=True))
    return Block(name, extents, inside, shape, sharding.reduction)


def whole_block(name: str, shape: tuple[int, ...]) -> Block:
    """The block of a process that holds a whole tensor."""
    return block_of(name, Sharding(shape, "duplicate"), tp_rank=0, tp_size=1, shard_rank=0, shard_size=1)
