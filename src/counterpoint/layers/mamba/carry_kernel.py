"""GPU kernels that pass states from chunk to chunk; each program keeps a tile of one head's state in registers.

It imports Triton, which comes with torch for GPUs, so import it only where a GPU is in use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 512
"""Elements of a state that a program keeps, which were fastest of those tried on an H200."""


@triton.jit(do_not_specialize=["chunks"])  # type: ignore[untyped-decorator]
def _carry(  # type: ignore[no-untyped-def]
    states, share, entering, chunks, heads, width, depth, group,
    WIDTH: tl.constexpr, DEPTH: tl.constexpr, WIDE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    head, part = tl.program_id(0), tl.program_id(1)
    n = part * DEPTH + tl.arange(0, DEPTH)[:, None]
    p = tl.arange(0, WIDTH)[None, :]
    inside = (n < depth) & (p < width)
    at = ((head // group * depth + n) * group + head % group) * width + p
    step = heads.to(tl.int64) * depth * width
    state = tl.zeros((DEPTH, WIDTH), dtype=WIDE)
    added = tl.load(states + at, mask=inside, other=0)
    kept = tl.load(share + head)
    for chunk in range(chunks):
        # The next chunk's values are on their way while this one's are used.
        now, left = added.to(WIDE), kept
        is_more = chunk + 1 < chunks
        added = tl.load(states + step + at, mask=inside & is_more, other=0)
        kept = tl.load(share + heads + head, mask=is_more, other=0)
        tl.store(entering + at, state.to(entering.dtype.element_ty), mask=inside)
        state = now + tl.where(left == 0, 0, left * state)
        states += step
        entering += step
        share += heads


@triton.jit(do_not_specialize=["chunks"])  # type: ignore[untyped-decorator]
def _carry_back(  # type: ignore[no-untyped-def]
    gradient, entering, share, of_states, of_share, chunks, heads, width, depth, group, parts,
    WIDTH: tl.constexpr, DEPTH: tl.constexpr, WIDE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    head, part = tl.program_id(0), tl.program_id(1)
    n = part * DEPTH + tl.arange(0, DEPTH)[:, None]
    p = tl.arange(0, WIDTH)[None, :]
    inside = (n < depth) & (p < width)
    at = ((head // group * depth + n) * group + head % group) * width + p
    step = heads.to(tl.int64) * depth * width
    last = (chunks - 1).to(tl.int64)
    gradient += last * step
    entering += last * step
    of_states += last * step
    share += last * heads
    of_share += last * heads * parts
    later = tl.zeros((DEPTH, WIDTH), dtype=WIDE)
    given = tl.load(gradient + at, mask=inside, other=0)
    entered = tl.load(entering + at, mask=inside, other=0)
    kept = tl.load(share + head)
    for chunk in range(chunks):
        now, state, left = given.to(WIDE), entered.to(WIDE), kept
        is_more = chunk + 1 < chunks
        given = tl.load(gradient - step + at, mask=inside & is_more, other=0)
        entered = tl.load(entering - step + at, mask=inside & is_more, other=0)
        kept = tl.load(share - heads + head, mask=is_more, other=0)
        tl.store(of_states + at, later.to(of_states.dtype.element_ty), mask=inside)
        tl.store(of_share + head * parts + part, tl.sum(tl.where(inside, later * state, 0)))
        later = now + tl.where(left == 0, 0, left * later)
        gradient -= step
        entering -= step
        of_states -= step
        share -= heads
        of_share -= heads * parts


def carry(states: Tensor, share: Tensor) -> Tensor:
    """`carried` of states (chunks, groups, state, heads of a group, head_dim) and share (chunks, groups, heads of a
    group)."""
    states, share = states.contiguous(), share.contiguous()
    entering = torch.empty_like(states)
    grid, sizes = _split(states)
    _carry[grid](states, share, entering, states.shape[0], *_extents(states), **sizes, num_warps=4)
    return entering


def carry_back(gradient: Tensor, entering: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `carried` with respect to the states and the shares."""
    gradient, share = gradient.contiguous(), share.contiguous()
    of_states = torch.empty_like(entering)
    grid, sizes = _split(entering)
    partial = share.new_empty((*share.shape, grid[1]))
    _carry_back[grid](
        gradient, entering, share, of_states, partial, entering.shape[0], *_extents(entering), grid[1], **sizes,
        num_warps=4,
    )  # fmt: skip
    return of_states, partial.sum(dim=-1)


def _extents(states: Tensor) -> tuple[int, int, int, int]:
    """Heads in all, head_dim, state, and heads of a group."""
    _chunks, groups, depth, group, width = states.shape
    return groups * group, width, depth, group


def _split(states: Tensor) -> tuple[tuple[int, int], dict[str, object]]:
    """One program for each head and tile of its state."""
    heads, width, depth, _group = _extents(states)
    wide = triton.next_power_of_2(width)
    tile = max(min(_TILE // wide, triton.next_power_of_2(depth)), 1)
    dtype = tl.float64 if states.dtype == torch.float64 else tl.float32
    return (heads, triton.cdiv(depth, tile)), {"WIDTH": wide, "DEPTH": tile, "WIDE": dtype}
