"""The square of the label's score, of cut scores and of whole ones."""

from collections.abc import Callable

from torch import Tensor

from counterpoint_example.logit_penalty.spec import LogitPenaltySection


def term(_section: LogitPenaltySection) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of the logarithms of all words' exponentials and the labels' scores, (rows,) each, to (rows,)."""
    return _squared


def _squared(_whole: Tensor, of_label: Tensor) -> Tensor:
    return of_label.square()


def plain(_section: LogitPenaltySection, scores: Tensor, labels: Tensor) -> Tensor:
    """The sum over the rows with a label, from whole scores (rows, words): what `verify` compares the term with."""
    found = scores.new_zeros(())
    for row, label in zip(scores, labels.tolist(), strict=True):
        if label >= 0:
            found = found + row[label] * row[label]
    return found
