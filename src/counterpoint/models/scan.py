"""The state-space recurrence of Mamba-2, computed chunk by chunk (Dao and Gu, 2024, arXiv:2405.21060).

For a head with state S (head_dim, state), row by row in a document: S = exp(decay) S + step x B^T, y = S C.
Shapes: r rows, c chunks, q and k rows of a chunk, g groups, h heads of a group, p channels of a head, n state.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.models.wide import widened


def scan(x: Tensor, b: Tensor, c: Tensor, step: Tensor, decay: Tensor, document: Tensor, chunk: int) -> Tensor:
    """x (rows, heads, head_dim), b and c (rows, groups, state), step and decay (rows, heads), document int64 (rows,)
    -> (rows, heads, head_dim).

    `decay` is at most 0. No state crosses from one document to another, wherever in a chunk the boundary lies.
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
    total_cqgh = chunked(widened(decay)).cumsum(dim=1).view(chunks, chunk, groups, heads // groups)

    inside = _within_chunks(x_cqghp, b_ckgn, c_cqgn, total_cqgh, document_cq)
    across = _across_chunks(x_cqghp, b_ckgn, c_cqgn, total_cqgh, document_cq)
    return (inside + across).reshape(chunks * chunk, heads, head_dim)[:rows]


def _within_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, document: Tensor) -> Tensor:
    """What rows give to later rows of their own chunk."""
    chunk = x.shape[1]
    same_cqk = document[:, :, None] == document[:, None, :]
    earlier_qk = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    visible = (same_cqk & earlier_qk)[..., None, None]
    # Masked before the exponential: above the diagonal it would overflow, and infinity times zero is no gradient.
    left_cqkgh = (total[:, :, None] - total[:, None]).masked_fill(~visible, -torch.inf).exp()
    scores_cqkg = torch.einsum("cqgn,ckgn->cqkg", c, b)
    weights = scores_cqkg[..., None] * left_cqkgh.to(x.dtype)
    return torch.einsum("cqkgh,ckghp->cqghp", weights, x)


def _across_chunks(x: Tensor, b: Tensor, c: Tensor, total: Tensor, document: Tensor) -> Tensor:
    """What earlier chunks give: each leaves a state, of which a later one sees what their common document decays."""
    first, last = document[:, 0], document[:, -1]
    to_end = (total[:, -1:] - total).exp() * (document == last[:, None])[..., None, None]
    states_cghpn = torch.einsum("ckgn,ckghp->cghpn", b, x * to_end[..., None].to(x.dtype))
    # In float64: this sum runs over the whole pack, and differences of it must not depend on documents before.
    chunks_cgh = total[:, -1].double().cumsum(dim=0)
    # From the end of chunk k to the start of chunk c, both in one document.
    before_cgh = F.pad(chunks_cgh, (0, 0, 0, 0, 1, 0))[:-1]
    order = torch.arange(x.shape[0], device=x.device)
    passes = ((order[:, None] > order[None]) & (first[:, None] == last[None]))[..., None, None]
    carried_ckgh = (before_cgh[:, None] - chunks_cgh[None]).masked_fill(~passes, -torch.inf).exp()
    entering_cghpn = torch.einsum("ckgh,kghpn->cghpn", carried_ckgh.to(total.dtype), states_cghpn.to(total.dtype))
    from_start = total.exp() * (document == first[:, None])[..., None, None]
    read_cqghp = torch.einsum("cqgn,cghpn->cqghp", c, entering_cghpn.to(x.dtype))
    return read_cqghp * from_start[..., None].to(x.dtype)
