"""The output projection fused with the cross entropy, computed for some rows at a time.

Logits of all rows never exist at once. If gradients are needed, they are computed in the same pass, so that no logit is
computed twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.models.seams import Fusible, OffersWeight
from counterpoint.plan.samples import NO_LABEL

_SCORES_AT_ONCE = 2**28
"""Logits of one piece: half a GiB in bfloat16; smaller pieces make slower matrix products."""


def _at_once(_weight: Tensor, gradient: Callable[[], Tensor]) -> Tensor | None:
    return gradient()


def _alone(statistics: Tensor) -> Tensor:
    return statistics[None]


@dataclass(frozen=True)
class WordShare:
    """The shard of the vocabulary that a matrix holds: `words` words from `first` on, None for all rows of the matrix.

    `gather` maps statistics (3, rows) to those of all shards (shards, 3, rows), equal on every rank.
    """

    first: int = 0
    words: int | None = None
    gather: Callable[[Tensor], Tensor] = _alone


def statistics(scores: Tensor, labels: Tensor) -> Tensor:
    """Statistics (3, rows) of scores (rows, words), in at least float32.

    They are the largest score, the sum of exp(score - largest), and the score of the label, 0 if the label is not in
    this shard. Labels count from the shard's first word.
    """
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    largest = wide.amax(dim=1)
    inside = (labels >= 0) & (labels < scores.shape[1])
    target = wide.gather(1, labels.where(inside, 0)[:, None])[:, 0].where(inside, 0)
    return torch.stack((largest, (wide - largest[:, None]).exp().sum(dim=1), target))


def score_gradient(
    scores: Tensor, labels: Tensor, whole: Tensor, factor: Tensor, of_terms: Tensor | None = None
) -> Tensor:
    """The gradient (rows, words) of the scores, in their dtype.

    `whole` (rows,) is the log-sum-exp over the whole vocabulary, `factor` (rows,) the factor of each row's loss.
    `of_terms` (2, rows) are derivatives of further terms with respect to `whole` and to the score of the label.
    """
    wide = scores.to(whole.dtype)
    is_label = torch.arange(scores.shape[1], device=scores.device) == labels[:, None]
    if of_terms is None:
        return (((wide - whole[:, None]).exp() - is_label.to(wide.dtype)) * factor[:, None]).to(scores.dtype)
    of_shares, of_label = factor + of_terms[0], factor - of_terms[1]
    shares = (wide - whole[:, None]).exp()
    return (shares * of_shares[:, None] - is_label.to(wide.dtype) * of_label[:, None]).to(scores.dtype)


@dataclass(frozen=True)
class Term:
    """A term of the loss of each row besides its cross entropy; its gradient is multiplied by `weight`.

    `of` maps the log-sum-exp of the scores and the scores of the labels, (rows,) each, to values (rows,).
    """

    weight: float
    of: Callable[[Tensor, Tensor], Tensor]


class RowLosses(NamedTuple):
    """The mean cross entropy, and the means of further terms (terms,), without their weights.

    The terms carry no gradient: theirs is already part of the gradient of the cross entropy.
    """

    loss: Tensor
    terms: Tensor


@final
class LinearLoss(Fusible, OffersWeight):
    """The cross entropies of rows (rows, hidden) against words (words, hidden), summed and divided by the denominator.

    Sums are in at least float32; rows without a label are ignored. Without any loss token the loss and all gradients
    are 0. `terms` are added to the cross entropy of each row. `offer`, `statistics` and `score_gradient` can be
    replaced, to defer weight gradients or to compile.
    """

    regions = ("statistics", "score_gradient")

    def __init__(self, share: WordShare | None = None) -> None:
        super().__init__()
        self.share = WordShare() if share is None else share
        self.terms: tuple[Term, ...] = ()
        self.offer = _at_once
        self.statistics: Callable[[Tensor, Tensor], Tensor] = statistics
        self.score_gradient: Callable[..., Tensor] = score_gradient

    def forward(self, rows: Tensor, matrix: Tensor, labels: Tensor, denominator: float) -> RowLosses:
        """Rows (rows, hidden), matrix (words, hidden) and labels int64 (rows,), NO_LABEL without a loss -> losses."""
        scale = 1.0 / denominator if denominator > 0 else 0.0
        keeps = torch.is_grad_enabled()
        return RowLosses(*_LinearLoss.apply(rows, matrix, labels, scale, self, keeps))  # type: ignore[no-untyped-call]


@final
class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        matrix: Tensor,
        labels: Tensor,
        scale: float,
        module: LinearLoss,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        has_rows, has_matrix = (needed and keeps for needed in ctx.needs_input_grad[:2])
        pieces = _Pieces(module, rows, matrix, scale, has_rows, has_matrix)
        at_once = max(1, _SCORES_AT_ONCE // max(1, matrix.shape[0]))
        found = [pieces.run(slice(at, at + at_once), labels) for at in range(0, rows.shape[0], at_once)]
        ctx.module, ctx.matrix = module, matrix
        ctx.save_for_backward(pieces.of_rows, pieces.of_matrix)
        if not found:
            wide = torch.promote_types(rows.dtype, torch.float32)
            loss, terms = rows.new_zeros((), dtype=wide), rows.new_zeros(len(module.terms), dtype=wide)
        else:
            loss = torch.stack([losses.loss for losses in found]).sum() * scale
            terms = torch.stack([losses.terms for losses in found]).sum(dim=0) * scale
        ctx.mark_non_differentiable(terms)
        return loss, terms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_rows, of_matrix = ctx.saved_tensors
        factor = gradients[0]
        if of_rows is not None:
            of_rows = of_rows * factor.to(of_rows.dtype)
        if of_matrix is not None:
            whole = of_matrix
            of_matrix = ctx.module.offer(ctx.matrix, lambda: (whole * factor).to(ctx.matrix.dtype))
        return of_rows, of_matrix, None, None, None, None


class _Pieces:
    """Accumulates gradients piece by piece: of rows in place, of the matrix as a sum in at least float32."""

    def __init__(
        self, module: LinearLoss, rows: Tensor, matrix: Tensor, scale: float, has_rows: bool, has_matrix: bool
    ) -> None:
        self._module, self._rows, self._scale = module, rows, scale
        self._words = matrix if module.share.words is None else matrix[: module.share.words]
        self.of_rows = torch.zeros_like(rows) if has_rows else None
        wide = torch.promote_types(matrix.dtype, torch.float32)
        self.of_matrix = matrix.new_zeros(matrix.shape, dtype=wide) if has_matrix else None

    def run(self, which: slice, all_labels: Tensor) -> RowLosses:
        """Compute the losses of some rows, not yet scaled, and accumulate their gradients."""
        share = self._module.share
        rows, labels = self._rows[which], all_labels[which]
        scores, own = F.linear(rows, self._words), labels - share.first
        largest, sums, targets = share.gather(self._statistics(scores, own)).unbind(1)
        most = largest.amax(dim=0)
        whole, target = (sums * (largest - most).exp()).sum(dim=0).log() + most, targets.sum(dim=0)
        counted = labels != NO_LABEL
        terms, of_terms = self._terms(whole, target, counted)
        if self.of_rows is not None or self.of_matrix is not None:
            factor = counted.to(whole.dtype) * self._scale
            gradient = self._module.score_gradient(scores, own, whole, factor, of_terms)
            del scores
            self._add(gradient, rows, which)
        return RowLosses((whole - target).where(counted, 0).sum(), terms)

    def _terms(self, whole: Tensor, target: Tensor, counted: Tensor) -> tuple[Tensor, Tensor | None]:
        """The sum of each term, and their weighted derivatives (2, rows) in all, None without terms."""
        terms = self._module.terms
        if not terms:
            return whole.new_zeros(0), None
        with torch.enable_grad():
            inputs = [values.detach().where(counted, 0).requires_grad_() for values in (whole, target)]
            sums = [term.of(*inputs).where(counted, 0).sum() for term in terms]
            weighed = torch.stack([one * term.weight for one, term in zip(sums, terms, strict=True)]).sum()
            found = torch.autograd.grad(weighed * self._scale, inputs, allow_unused=True, materialize_grads=True)
        return torch.stack(sums).detach(), torch.stack(found)

    def _statistics(self, scores: Tensor, labels: Tensor) -> Tensor:
        if scores.shape[1]:
            return self._module.statistics(scores, labels)
        # A shard may hold only padding: no word, hence no exponential.
        none = scores.new_zeros((3, scores.shape[0]), dtype=torch.promote_types(scores.dtype, torch.float32))
        none[0] = torch.finfo(none.dtype).min
        return none

    def _add(self, gradient: Tensor, rows: Tensor, which: slice) -> None:
        if self.of_rows is not None:
            self.of_rows[which] = gradient @ self._words
        if self.of_matrix is not None:
            own = self.of_matrix[: self._words.shape[0]]
            if own.is_cuda and own.dtype != rows.dtype:
                torch.addmm(own, gradient.t(), rows, out_dtype=own.dtype, out=own)
            else:
                own.addmm_(gradient.t(), rows) if own.dtype == rows.dtype else own.add_(gradient.t() @ rows)
