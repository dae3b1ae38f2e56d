"""A dropless mixture of experts on packed rows."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.kinds.names import Activation
from counterpoint.layers.moe.balance import balance_loss, document_counts
from counterpoint.layers.moe.experts import Experts
from counterpoint.layers.moe.router import Choice, Router, next_bias
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.attached import attach
from counterpoint.models.batch import TextBatch
from counterpoint.models.mlp import mlp_of
from counterpoint.models.seams import (
    BALANCE,
    COUNTS,
    Counted,
    Dispatch,
    LaneSum,
    LocalDispatch,
    OwnDocuments,
    RowsEnter,
    RowsLeave,
    WithResults,
)


@final
class Moe(Counted):
    """Maps normed rows (rows, hidden) -> (rows, hidden): the weighted experts of each row, and the shared expert.

    Padding rows are not routed.
    """

    def __init__(self, hidden: int, section: MoeConfig, activation: Activation) -> None:
        super().__init__()
        self.top_k, self.num_experts = section.top_k, section.experts
        self.balance, self.bias_rate = section.balance, section.bias_rate
        self.rows_enter: nn.Module = RowsEnter()
        self.own_documents: nn.Module = OwnDocuments()
        self.lane_sum: nn.Module = LaneSum()
        self.router = Router(hidden, section)
        self.dispatch: Dispatch = LocalDispatch()
        self.experts = Experts(section.experts, hidden, section.ffn, activation)
        self.rows_leave: nn.Module = RowsLeave()
        self.shared = _shared_expert(hidden, section.shared_ffn, activation)

    def forward(self, rows: Tensor, batch: TextBatch) -> WithResults:
        own = self.rows_enter(rows)
        document = self.own_documents(batch.segments.document, own.shape[0])
        inside = own[: document.shape[0]]
        choice: Choice = self.router(inside)
        order, counts = self._by_expert(choice.experts)
        state = self.dispatch.announce(counts)
        shared = self.shared(rows)
        # Copies of each row, one per chosen expert, are permuted and permuted back, so that sums have a fixed order.
        copies = inside[:, None].expand(-1, self.top_k, -1).flatten(0, 1)
        sent = self.dispatch.send(copies.index_select(0, order), state)
        answers = self.dispatch.combine(self.experts(sent, state.counts), state)
        by_row = (
            answers.new_empty(answers.shape).index_copy(0, order, answers).view(*choice.experts.shape, own.shape[1])
        )
        mixed = (by_row * choice.weights[..., None].to(by_row.dtype)).sum(dim=1)
        balance = self._balance(choice, document, batch)
        padded = F.pad(attach(mixed, balance), (0, 0, 0, own.shape[0] - inside.shape[0]))
        return WithResults(self.rows_leave(padded) + shared, {COUNTS: counts, BALANCE: balance.detach()})

    def settle(self, counts: Tensor, is_broken: Tensor) -> None:
        """Update the expert bias, if there is one and the router is trained."""
        bias, rate = self.router.bias, self.bias_rate
        if bias is not None and rate is not None and self.router.weight.requires_grad:
            bias.copy_(torch.where(is_broken, bias, next_bias(bias, counts, rate)))

    def _by_expert(self, experts: Tensor) -> tuple[Tensor, Tensor]:
        """The indices of (row, choice) pairs sorted by expert, and the number of pairs of each expert."""
        chosen = experts.flatten()
        order = chosen.sort(stable=True).indices
        counts = torch.zeros(self.num_experts, dtype=torch.int64, device=chosen.device)
        return order, counts.index_add(0, chosen, torch.ones_like(chosen))

    def _balance(self, choice: Choice, document: Tensor, batch: TextBatch) -> Tensor:
        """The weighted balance loss of this process's rows, as a share of the mean over the global batch's
        documents."""
        segments = batch.segments
        # A frozen router cannot be balanced.
        if self.balance == 0.0 or batch.document_denominator == 0.0 or not self.router.weight.requires_grad:
            return choice.shares.new_zeros(())
        own = document_counts(choice.experts, document, len(segments.lengths), self.num_experts)
        counts = self.lane_sum(own)
        total = balance_loss(choice.shares, counts, document, segments.extents, self.top_k)
        return total * (self.balance / batch.document_denominator)


@final
class NoExpert(nn.Module):
    """Takes the place of an absent shared expert."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.zeros_like(rows)


def _shared_expert(hidden: int, ffn: int, activation: Activation) -> nn.Module:
    return mlp_of(activation, hidden, ffn, bias=False) if ffn else NoExpert()
