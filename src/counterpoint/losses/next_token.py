"""The cross entropy of the token after each row, where it is a target."""

from typing import TYPE_CHECKING

from counterpoint.losses.main import MainLoss, Text
from counterpoint.plan.batch import BatchPlan

if TYPE_CHECKING:
    from counterpoint.kinds.arrays import Ints


def _labels(text: Text) -> "Ints":
    return text.labels


def _denominator(batch: BatchPlan) -> int:
    return batch.loss_tokens


NEXT_TOKEN = MainLoss(labels=_labels, denominator=_denominator, mean="loss", number="loss_tokens")
