"""The state-space recurrence of Mamba-2, computed chunk by chunk (Dao and Gu, 2024, arXiv:2405.21060).

For a head with state S (head_dim, state), row by row in a document: S = exp(decay) S + step x B^T, y = S C.
Shapes: r rows, c chunks, q and k rows of a chunk, g groups, h heads of a group, p channels of a head, n state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.layers.mamba.carry import carried
from counterpoint.models.seams import widened


def scan(x: Tensor, b: Tensor, c: Tensor, step: Tensor, decay: Tensor, document: Tensor, chunk: int) -> Tensor:
    """x (rows, heads, head_dim), b and c (rows, groups, state), step and decay (rows, heads), document int64 (rows,)
    -> (rows, heads, head_dim).

    `decay` is at most 0. States and gradients never cross a document boundary, even inside a chunk: the gradient of a
    document without a loss is exactly zero.
    """
    rows, heads, head_dim = x.shape
    groups = b.shape[1]
    chunk = max(min(chunk, rows), 1)
    chunks = -(-rows // chunk)

    def chunked(tensor: Tensor, fill: int = 0) -> Tensor:
        padding = [0, 0] * (tensor.dim() - 1) + [0, chunks * chunk - rows]
        return F.pad(tensor, padding, value=fill).view(chunks, chunk, *tensor.shape[1:])

    x_cqghp = chunked(x * step[..., None].to(x.dtype)).view(chunks, chunk, groups, heads // groups, head_dim)
    b_ckgn, c_cqgn = chunked(b), chunked(c)
    document_cq = chunked(document, fill=-1)
    visible_cqk = _earlier(chunk, x.device) & (document_cq[:, :, None] == document_cq[:, None])
    total_cqgh = _sums(visible_cqk, chunked(widened(decay))).view(chunks, chunk, groups, heads // groups)
    total_cghq = total_cqgh.permute(0, 2, 3, 1)

    inside = _within_chunks(x_cqghp, b_ckgn, c_cqgn, total_cghq, visible_cqk)
    across = _across_chunks(x_cqghp, b_ckgn, c_cqgn, total_cghq, document_cq)
    return (inside + across).reshape(chunks * chunk, heads, head_dim)[:rows]


def _earlier(count: int, device: torch.device) -> Tensor:
    """bool (count, count): whether the column index is at most the row index."""
    return torch.ones(count, count, dtype=torch.bool, device=device).tril()


def _sums(chosen_qk: Tensor, values_kh: Tensor) -> Tensor:
    """For each q the sum of its chosen values: (..., q, h).

    Cumulative sums over all documents would give the same differences inside a document. But in backward the gradients
    of later documents would cancel only up to rounding, and reach documents without a loss.
    """
    # In float64, because torch may be set to round the factors of narrower matrix products.
    return (chosen_qk.double() @ values_kh.double()).to(values_kh.dtype)


def _left(decayed: Tensor, chosen: Tensor) -> Tensor:
    """exp(decayed), the remaining share of a state, (c, g, h, ...), and 0 where `chosen` (c, ...) is not."""
    # Masked before the exponential, which may overflow for other entries: infinity times zero is NaN.
    return decayed.masked_fill(~chosen[:, None, None], -torch.inf).exp()


def _within_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, visible: Tensor) -> Tensor:
    """The contribution of rows to later rows of the same chunk."""
    left_cghqk = _left(total[..., None] - total[..., None, :], visible)
    scores_cgqk = torch.einsum("cqgn,ckgn->cgqk", c, b)
    weights = scores_cgqk[:, :, None] * left_cghqk.to(x.dtype)
    return torch.einsum("cghqk,ckghp->cqghp", weights, x)


def _across_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, document: Tensor) -> Tensor:
    """The contribution of earlier chunks, whose states are carried to this one while the document is the same."""
    first, last = document[:, 0], document[:, -1]
    previous = F.pad(last[:-1], (1, 0), value=-1)
    is_entered = previous == first
    end = total[..., -1:]
    to_end = _left(end - total, document == last[:, None])
    states_cgnhp = torch.einsum("ckgn,ckghp->cgnhp", b, x * _by_row(to_end, x))
    share_cgh = _left(end[..., 0], is_entered & (first == last))
    entering = carried(states_cgnhp, share_cgh)
    read_cqghp = torch.einsum("cqgn,cgnhp->cqghp", c, entering)
    from_start = _left(total, (document == first[:, None]) & is_entered[:, None])
    return read_cqghp * _by_row(from_start, x)


def _by_row(shares: Tensor, x: Tensor) -> Tensor:
    """Shares (c, g, h, q) as factors of x (c, q, g, h, p)."""
    return shares.permute(0, 3, 1, 2)[..., None].to(x.dtype)
