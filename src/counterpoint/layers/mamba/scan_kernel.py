"""GPU kernels of the scan: a chunk of some heads at a time, whose scores and decays stay in registers.

`layers/mamba/scan.py` has the formulas. Products are of the input's dtype and summed in float32. States lie as (chunks,
heads, state, head_dim). It imports Triton, which comes with torch for GPUs, so import it only where a GPU is in use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from counterpoint.layers.mamba.carry_kernel import carry, carry_back

CHUNK = 64
"""Rows of a chunk; with more, the gradients of B and C of a group would not fit into registers."""

_HEADS = 8
"""Most heads of a group that a program takes one after the other, with the same B and C."""

_SUMMED = 32
"""Heads whose decays a program sums."""


@triton.jit  # type: ignore[untyped-decorator]
def _offsets(start, rows, stride, place, Q: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Offsets (Q, W) of a chunk's rows, each `stride` long, from column `place` on, and which rows exist."""
    at = start + tl.arange(0, Q)
    return at[:, None].to(tl.int64) * stride + place + tl.arange(0, W)[None, :], (at < rows)[:, None]


@triton.jit  # type: ignore[untyped-decorator]
def _state_offsets(chunk, heads, head, N: tl.constexpr, P: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    place = (chunk.to(tl.int64) * heads + head) * N * P
    return place + tl.arange(0, N)[:, None] * P + tl.arange(0, P)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _documents(document, start, rows, Q: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Of a chunk: the document of each row, of the first and the last, and whether the first began before it."""
    at = start + tl.arange(0, Q)
    own = tl.load(document + at, mask=at < rows, other=-1)
    first = tl.load(document + start)
    last = tl.load(document + start + Q - 1, mask=start + Q <= rows, other=-1)
    previous = tl.load(document + start - 1, mask=start > 0, other=-1)
    return own, first, last, previous == first


@triton.jit  # type: ignore[untyped-decorator]
def _visible(own, Q: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    order = tl.arange(0, Q)
    return (order[:, None] >= order[None, :]) & (own[:, None] == own[None, :])


@triton.jit
def _share(decayed, chosen):  # type: ignore[no-untyped-def]
    # Masked before the exponential, which may overflow for other entries: infinity times zero is NaN.
    return tl.exp(tl.where(chosen, decayed, float("-inf")))


@triton.jit  # type: ignore[untyped-decorator]
def _column(values, start, rows, heads, head, Q: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Entries (Q,) of a chunk and a head in (rows, heads); zeros for rows that do not exist."""
    at = start + tl.arange(0, Q)
    return tl.load(values + at.to(tl.int64) * heads + head, mask=at < rows, other=0.0)


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _sum_in_documents(  # type: ignore[no-untyped-def]
    values, document, sums, rows, heads, Q: tl.constexpr, HEADS: tl.constexpr, BACK: tl.constexpr  # noqa: N803
):  # fmt: skip
    """Sums of a chunk's values (rows, heads) up to each row of its document, or with BACK from it on."""
    start = tl.program_id(0) * Q
    order = tl.arange(0, Q)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    own = tl.load(document + start + order, mask=start + order < rows, other=-1)
    total = tl.zeros((Q, HEADS), dtype=tl.float32)
    for other in range(tl.minimum(Q, rows - start)):
        place = (start + other).to(tl.int64)
        each = tl.load(values + place * heads + head, mask=head < heads, other=0.0)
        is_within = order <= other if BACK else order >= other
        chosen = is_within & (own == tl.load(document + place))
        total += tl.where(chosen[:, None], each[None, :], 0.0)
    to = (start + order)[:, None].to(tl.int64) * heads + head[None, :]
    tl.store(sums + to, total, mask=(start + order < rows)[:, None] & (head < heads)[None, :])


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _add_states(  # type: ignore[no-untyped-def]
    x, b, step, total, document, states, share, rows, heads, group,
    Q: tl.constexpr, N: tl.constexpr, P: tl.constexpr, HEADS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """What the rows of each chunk add to the state of their document at its end, and what is left of the one before."""
    chunk, part = tl.program_id(0), tl.program_id(1)
    start, groups = chunk * Q, heads // group
    own, first, last, is_entered = _documents(document, start, rows, Q)
    read, inside = _offsets(start, rows, groups * N, part * HEADS // group * N, Q, N)
    keys = tl.load(b + read, mask=inside, other=0.0)
    for one in range(HEADS):
        head = part * HEADS + one
        decayed = _column(total, start, rows, heads, head, Q)
        end = tl.load(total + (start + Q - 1).to(tl.int64) * heads + head, mask=start + Q <= rows, other=0.0)
        factor = _column(step, start, rows, heads, head, Q) * _share(end - decayed, own == last)
        at, _inside = _offsets(start, rows, heads * P, head * P, Q, P)
        values = tl.load(x + at, mask=inside, other=0.0)
        made = tl.dot(tl.trans(keys), (values.to(tl.float32) * factor[:, None]).to(keys.dtype))
        tl.store(states + _state_offsets(chunk, heads, head, N, P), made.to(states.dtype.element_ty))
        tl.store(share + chunk * heads + head, _share(end, is_entered & (first == last)))


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _mix(  # type: ignore[no-untyped-def]
    x, b, c, step, total, skip, document, entering, out, rows, heads, group,
    Q: tl.constexpr, N: tl.constexpr, P: tl.constexpr, HEADS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """What comes out of each row: from earlier rows of its chunk, from the state before it, and from itself."""
    chunk, part = tl.program_id(0), tl.program_id(1)
    start, groups = chunk * Q, heads // group
    own, first, _last, is_entered = _documents(document, start, rows, Q)
    read, inside = _offsets(start, rows, groups * N, part * HEADS // group * N, Q, N)
    keys = tl.load(b + read, mask=inside, other=0.0)
    queries = tl.load(c + read, mask=inside, other=0.0)
    scores = tl.dot(queries, tl.trans(keys))
    for one in range(HEADS):
        head = part * HEADS + one
        decayed = _column(total, start, rows, heads, head, Q)
        weights = scores * _share(decayed[:, None] - decayed[None, :], _visible(own, Q))
        at, _inside = _offsets(start, rows, heads * P, head * P, Q, P)
        wide = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        state = tl.load(entering + _state_offsets(chunk, heads, head, N, P))
        mixed = tl.dot(queries, state) * _share(decayed, (own == first) & is_entered)[:, None]
        scaled = wide * _column(step, start, rows, heads, head, Q)[:, None]
        mixed = tl.dot(weights.to(keys.dtype), scaled.to(keys.dtype), mixed)
        mixed += wide * tl.load(skip + head).to(tl.float32)
        tl.store(out + at, mixed.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _entering_gradients(  # type: ignore[no-untyped-def]
    gradient, c, total, document, of_entering, rows, heads, group,
    Q: tl.constexpr, N: tl.constexpr, P: tl.constexpr, HEADS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The gradients of the states that enter the chunks."""
    chunk, part = tl.program_id(0), tl.program_id(1)
    start, groups = chunk * Q, heads // group
    own, first, _last, is_entered = _documents(document, start, rows, Q)
    read, inside = _offsets(start, rows, groups * N, part * HEADS // group * N, Q, N)
    queries = tl.load(c + read, mask=inside, other=0.0)
    for one in range(HEADS):
        head = part * HEADS + one
        from_start = _share(_column(total, start, rows, heads, head, Q), (own == first) & is_entered)
        at, _inside = _offsets(start, rows, heads * P, head * P, Q, P)
        given = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        made = tl.dot(tl.trans(queries), (given * from_start[:, None]).to(queries.dtype))
        tl.store(of_entering + _state_offsets(chunk, heads, head, N, P), made.to(of_entering.dtype.element_ty))


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _gradients(  # type: ignore[no-untyped-def]
    gradient, x, b, c, step, total, skip, document, of_states, of_share,
    of_x, of_scores, of_step, of_total, of_skip, rows, heads, group,
    Q: tl.constexpr, N: tl.constexpr, P: tl.constexpr, HEADS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The gradients of x, step, summed decays and skip, and those of the scores, summed over the program's heads."""
    chunk, part = tl.program_id(0), tl.program_id(1)
    start, groups = chunk * Q, heads // group
    order = tl.arange(0, Q)
    own, first, last, is_entered = _documents(document, start, rows, Q)
    read, inside = _offsets(start, rows, groups * N, part * HEADS // group * N, Q, N)
    keys = tl.load(b + read, mask=inside, other=0.0)
    scores = tl.dot(tl.load(c + read, mask=inside, other=0.0), tl.trans(keys))
    summed = tl.zeros((Q, Q), dtype=tl.float32)
    for one in range(HEADS):
        head = part * HEADS + one
        decayed = _column(total, start, rows, heads, head, Q)
        end = tl.load(total + (start + Q - 1).to(tl.int64) * heads + head, mask=start + Q <= rows, other=0.0)
        to_end = _share(end - decayed, own == last)
        steps = _column(step, start, rows, heads, head, Q)
        at, _inside = _offsets(start, rows, heads * P, head * P, Q, P)
        wide = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        given = tl.load(gradient + at, mask=inside, other=0.0)
        of_added = tl.dot(keys, tl.load(of_states + _state_offsets(chunk, heads, head, N, P)))
        scaled = wide * steps[:, None]
        of_end = to_end * tl.sum(scaled * of_added, axis=1)
        left = _share(decayed[:, None] - decayed[None, :], _visible(own, Q))
        of_scaled = to_end[:, None] * of_added
        of_scaled = tl.dot(tl.trans((scores * left).to(keys.dtype)), given, of_scaled)
        of_weights = tl.dot(given, tl.trans(scaled.to(keys.dtype))) * left
        summed += of_weights
        of_weights *= scores
        of_decayed = tl.sum(of_weights, axis=1) - tl.sum(of_weights, axis=0) - of_end
        through = _share(end, is_entered & (first == last))
        at_end = tl.sum(of_end, axis=0) + tl.load(of_share + chunk * heads + head) * through
        of_decayed += tl.where(order == Q - 1, at_end, 0.0)
        per_row = (start + order).to(tl.int64) * heads + head
        tl.store(of_total + per_row, of_decayed, mask=start + order < rows)
        tl.store(of_step + per_row, tl.sum(of_scaled * wide, axis=1), mask=start + order < rows)
        tl.store(of_skip + chunk * heads + head, tl.sum(tl.sum(given.to(tl.float32) * wide, axis=1), axis=0))
        made = of_scaled * steps[:, None] + given.to(tl.float32) * tl.load(skip + head).to(tl.float32)
        tl.store(of_x + at, made.to(of_x.dtype.element_ty), mask=inside)
    square = order[:, None] * Q + order[None, :]
    place = (chunk.to(tl.int64) * (heads // HEADS) + part) * Q * Q
    tl.store(of_scores + place + square, summed.to(of_scores.dtype.element_ty))


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def _shared_gradients(  # type: ignore[no-untyped-def]
    given, b, c, step, total, document, states, of_scores, of_total, out, rows, heads, group,
    Q: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PARTS: tl.constexpr, IS_C: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The gradient of C, or B, of a group.

    For C, `given` are the output's gradients and `states` those that enter the chunks, and the gradients of summed
    decays get what comes through these; for B, `given` is x, and `states` are the gradients of what is added to states.
    """
    chunk, place_of_group = tl.program_id(0), tl.program_id(1)
    start, groups = chunk * Q, heads // group
    order = tl.arange(0, Q)
    own, first, last, is_entered = _documents(document, start, rows, Q)
    read, inside = _offsets(start, rows, groups * N, place_of_group * N, Q, N)
    queries = tl.load(c + read, mask=inside, other=0.0)
    summed = tl.zeros((Q, N), dtype=tl.float32)
    for one in range(group):
        head = place_of_group * group + one
        decayed = _column(total, start, rows, heads, head, Q)
        at, _inside = _offsets(start, rows, heads * P, head * P, Q, P)
        state = tl.load(states + _state_offsets(chunk, heads, head, N, P))
        met = tl.dot(tl.load(given + at, mask=inside, other=0.0), tl.trans(state))
        if IS_C:
            share = _share(decayed, (own == first) & is_entered)
            place = of_total + (start + order).to(tl.int64) * heads + head
            added = _column(of_total, start, rows, heads, head, Q) + share * tl.sum(
                queries.to(tl.float32) * met, axis=1
            )
            tl.store(place, added, mask=start + order < rows)
        else:
            end = tl.load(total + (start + Q - 1).to(tl.int64) * heads + head, mask=start + Q <= rows, other=0.0)
            share = _share(end - decayed, own == last) * _column(step, start, rows, heads, head, Q)
        summed += met * share[:, None]
    square = order[:, None] * Q + order[None, :]
    place_of_scores = of_scores + (chunk.to(tl.int64) * groups + place_of_group) * PARTS * Q * Q
    gradients = tl.load(place_of_scores + square).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        gradients += tl.load(place_of_scores + part * Q * Q + square).to(tl.float32)
    narrow = gradients.to(queries.dtype)
    if IS_C:
        summed = tl.dot(narrow, tl.load(b + read, mask=inside, other=0.0), summed)
    else:
        summed = tl.dot(tl.trans(narrow), queries, summed)
    tl.store(out + read, summed.to(out.dtype.element_ty), mask=inside)


def scanned(
    x: Tensor, b: Tensor, c: Tensor, step: Tensor, decay: Tensor, skip: Tensor, document: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`scan` plus x times skip (heads,); also the decays summed inside chunks, the states that enter the chunks, and
    the shares of these that leave them."""
    grid, sizes, counts = _split(x, b)
    total = _sums(decay, document, is_back=False)
    states, share = (
        x.new_empty((grid[0], x.shape[1], b.shape[2], 1, x.shape[2])),
        step.new_empty((grid[0], x.shape[1], 1)),
    )
    _add_states[grid](x, b, step, total, document, states, share, *counts, **sizes, num_warps=4)
    entering = carry(states, share)
    out = torch.empty_like(x)
    _mix[grid](x, b, c, step, total, skip, document, entering, out, *counts, **sizes, num_warps=4)
    return out, total, entering, share


def scanned_back(
    gradient: Tensor, given: tuple[Tensor, ...], total: Tensor, entering: Tensor, share: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of x, b, c, step, decay and skip, which `given` holds with the documents, as `scanned` takes them
    without the decay."""
    x, b, c, step, skip, document = given
    grid, sizes, counts = _split(x, b)
    of_entering = torch.empty_like(entering)
    _entering_gradients[grid](gradient, c, total, document, of_entering, *counts, **sizes, num_warps=4)
    of_states, of_share = carry_back(of_entering, entering, share)
    of_x, of_b, of_c, of_step, of_total = (torch.empty_like(tensor) for tensor in (x, b, c, step, total))
    # One head a program: all that a head's gradients need fills the registers.
    alone = (grid[0], x.shape[1])
    of_skip, of_scores = step.new_empty(alone), x.new_empty((*alone, CHUNK, CHUNK))
    _gradients[alone](
        gradient, x, b, c, step, total, skip, document, of_states, of_share,
        of_x, of_scores, of_step, of_total, of_skip, *counts, **sizes | {"HEADS": 1}, num_warps=4, num_stages=1,
    )  # fmt: skip
    shared = (grid[0], b.shape[1])
    parts = {"PARTS": counts[2], **{key: sizes[key] for key in ("Q", "N", "P")}}
    for is_c, rows, states, out in ((True, gradient, entering, of_c), (False, x, of_states, of_b)):
        _shared_gradients[shared](
            rows, b, c, step, total, document, states, of_scores, of_total, out, *counts, **parts, IS_C=is_c,
            num_warps=4,
        )  # fmt: skip
    return of_x, of_b, of_c, of_step, _sums(of_total, document, is_back=True), of_skip.sum(dim=0).to(skip.dtype)


def _split(x: Tensor, b: Tensor) -> tuple[tuple[int, int], dict[str, int], tuple[int, int, int]]:
    """The programs, one for each chunk and few heads, their sizes, and counts: rows, heads, heads of a group."""
    (rows, heads, width), (_rows, groups, depth) = x.shape, b.shape
    group = heads // groups
    taken = max(count for count in range(1, _HEADS + 1) if group % count == 0)
    sizes = {"Q": CHUNK, "N": depth, "P": width, "HEADS": taken}
    return (triton.cdiv(rows, CHUNK), heads // taken), sizes, (rows, heads, group)


def _sums(values: Tensor, document: Tensor, *, is_back: bool) -> Tensor:
    rows, heads = values.shape
    sums = torch.empty_like(values)
    grid = (triton.cdiv(rows, CHUNK), triton.cdiv(heads, _SUMMED))
    _sum_in_documents[grid](values, document, sums, rows, heads, Q=CHUNK, HEADS=_SUMMED, BACK=is_back, num_warps=4)
    return sums
