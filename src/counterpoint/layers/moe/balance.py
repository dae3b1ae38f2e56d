"""The balance loss of a mixture of experts, document by document (DeepSeek-AI, 2024, arXiv:2412.19437, eq. 17-20)."""

import torch
from torch import Tensor


def document_counts(experts: Tensor, document: Tensor, documents: int, num_experts: int) -> Tensor:
    """Number of rows of each document that are routed to each expert, float64 (documents, num_experts).

    `experts` int64 (rows, top_k) are the choices, `document` int64 (rows,) the documents of rows.
    """
    places = document[:, None] * num_experts + experts
    counts = torch.zeros(documents * num_experts, dtype=torch.float64, device=experts.device)
    counts = counts.index_add(0, places.flatten(), counts.new_ones(places.numel()))
    return counts.view(documents, num_experts)


def balance_loss(shares: Tensor, counts: Tensor, document: Tensor, extents: Tensor, top_k: int) -> Tensor:
    """The sum over documents of experts / (top_k rows^2) sum_i counts_i sum_rows shares_i, of this process's rows.

    `counts` (documents, experts) cover all rows of the documents, `extents` int64 (documents,) are their lengths. So
    the losses of the processes that share a document add up.
    """
    experts = shares.shape[1]
    factors = experts / (top_k * extents.clamp(min=1).double().square())
    wanted = (counts * factors[:, None]).to(shares.dtype)
    return (shares * wanted.index_select(0, document)).sum()
