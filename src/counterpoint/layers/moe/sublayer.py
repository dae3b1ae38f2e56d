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
from counterpoint.models.dispatch import LocalDispatch
from counterpoint.models.mlp import Halves, mlp_of
from counterpoint.models.permute import copied, summed
from counterpoint.models.seams import (
    BALANCE,
    COUNTS,
    Arrived,
    Counted,
    Dispatch,
    Fusible,
    LaneSum,
    OwnDocuments,
    RowsEnter,
    RowsLeave,
    WithResults,
)


@final
class Moe(Counted, Fusible):
    """Maps normed rows (rows, hidden) -> (rows, hidden): the weighted experts of each row, and the shared expert.

    Padding rows are not routed.
    """

    regions = ("into_shared", "out_of_shared", "count_documents", "weigh_balance")

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
        routed = document.shape[0]
        choice: Choice = self.router(own if routed == own.shape[0] else own[:routed])
        state = self.dispatch.announce(choice.experts, choice.counts, own.shape[0], is_even=batch.is_even)
        # Each exchange overlaps with half of the shared expert, in backward with that of the other half's gradients.
        end_of_sending = self.dispatch.send(own, choice.weights, state)
        balance = self._balance(choice, document, batch)
        inner = self.into_shared(rows)
        arrived = end_of_sending()
        end_of_combining = self.dispatch.combine(self._answers(arrived, state.counts), state)
        shared = self.out_of_shared(inner)
        mixed = attach(end_of_combining(), balance)
        return WithResults(self.rows_leave(mixed) + shared, {COUNTS: choice.counts, BALANCE: balance.detach()})

    def into_shared(self, rows: Tensor) -> Tensor:
        """The first half of the shared expert."""
        return self.shared.into(rows)

    def out_of_shared(self, inner: Tensor) -> Tensor:
        """Its second half."""
        return self.shared.out_of(inner)

    def settle(self, counts: Tensor, is_broken: Tensor) -> None:
        """Update the expert bias, if there is one and the router is trained."""
        bias, rate = self.router.bias, self.bias_rate
        if bias is not None and rate is not None and self.router.weight.requires_grad:
            bias.copy_(torch.where(is_broken, bias, next_bias(bias, counts, rate)))

    def _answers(self, arrived: Arrived, counts: Tensor) -> Tensor:
        """The weighted sum of what local experts make of each row, (arrived, hidden)."""
        rows, weights, order = arrived
        of_choices = copied(weights.reshape(-1, 1), order.of_slots(weights.shape[0]))
        return summed(self.experts(copied(rows, order), of_choices.flatten(), counts), order)

    def _balance(self, choice: Choice, document: Tensor, batch: TextBatch) -> Tensor:
        """The weighted balance loss of this process's rows, as a share of the mean over the global batch's
        documents."""
        # A frozen router cannot be balanced.
        if self.balance == 0.0 or batch.document_denominator == 0.0 or not self.router.weight.requires_grad:
            return choice.shares.new_zeros(())
        # A document without rows adds nothing, and a compiler would make a variant for one document alone.
        extents = F.pad(batch.segments.extents, (0, 1))
        counts = self.lane_sum(self.count_documents(choice.experts, document, extents))
        return self.weigh_balance(choice.shares, counts, document, extents) * (
            self.balance / batch.document_denominator
        )

    def count_documents(self, experts: Tensor, document: Tensor, extents: Tensor) -> Tensor:
        """`document_counts` of rows with these choices."""
        return document_counts(experts, document, extents.shape[0], self.num_experts)

    def weigh_balance(self, shares: Tensor, counts: Tensor, document: Tensor, extents: Tensor) -> Tensor:
        """`balance_loss` of rows with these shares."""
        return balance_loss(shares, counts, document, extents, self.top_k)


@final
class NoExpert(Halves):
    """Takes the place of an absent shared expert."""

    def into(self, rows: Tensor) -> Tensor:
        return torch.zeros_like(rows)

    def out_of(self, inner: Tensor) -> Tensor:
        return inner


def _shared_expert(hidden: int, ffn: int, activation: Activation) -> Halves:
    return mlp_of(activation, hidden, ffn, bias=False) if ffn else NoExpert()
