"""The state-space recurrence of Mamba-2, computed chunk by chunk (Dao and Gu, 2024, arXiv:2405.21060).

For a head with state S (head_dim, state), row by row in a document: S = exp(decay) S + step x B^T, y = S C.
Shapes: r rows, c chunks, q and k rows of a chunk, g groups, h heads of a group, p channels of a head, n state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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

    inside = _within_chunks(x_cqghp, b_ckgn, c_cqgn, total_cqgh, visible_cqk)
    across = _across_chunks(x_cqghp, b_ckgn, c_cqgn, total_cqgh, document_cq)
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
    """exp(decayed), the remaining share of a state, and 0 where it is not chosen."""
    # Masked before the exponential, which may overflow for other entries: infinity times zero is NaN.
    return decayed.masked_fill(~chosen[..., None, None], -torch.inf).exp()


def _within_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, visible: Tensor) -> Tensor:
    """The contribution of rows to later rows of the same chunk."""
    left_cqkgh = _left(total[:, :, None] - total[:, None], visible)
    scores_cqkg = torch.einsum("cqgn,ckgn->cqkg", c, b)
    weights = scores_cqkg[..., None] * left_cqkgh.to(x.dtype)
    return torch.einsum("cqkgh,ckghp->cqghp", weights, x)


def _across_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, document: Tensor) -> Tensor:
    """The contribution of earlier chunks: their final states, decayed over the rows of the document in between."""
    first, last = document[:, 0], document[:, -1]
    to_end = _left(total[:, -1:] - total, document == last[:, None])
    states_cghpn = torch.einsum("ckgn,ckghp->cghpn", b, x * to_end[..., None].to(x.dtype))
    # From the end of chunk k to the start of chunk c: all rows in between are of one document, which may be long.
    ends_ch, earlier_ck = total[:, -1].double().flatten(1), _earlier(x.shape[0], x.device)
    passes_ck = earlier_ck.tril(-1) & (first[:, None] == last)
    before_cgh = _sums(passes_ck, ends_ch).view_as(total[:, -1])
    through_cgh = _sums(earlier_ck & (last[:, None] == last), ends_ch).view_as(total[:, -1])
    carried_ckgh = _left(before_cgh[:, None] - through_cgh, passes_ck)
    entering_cghpn = torch.einsum("ckgh,kghpn->cghpn", carried_ckgh.to(total.dtype), states_cghpn.to(total.dtype))
    from_start = _left(total, document == first[:, None])
    read_cqghp = torch.einsum("cqgn,cghpn->cqghp", c, entering_cghpn.to(x.dtype))
    return read_cqghp * from_start[..., None].to(x.dtype)
