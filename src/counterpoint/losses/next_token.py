"""The cross entropy of the token behind each row that is a target."""

from counterpoint.losses.main import Ints, MainLoss, Text
from counterpoint.plan.batch import BatchPlan


def _labels(text: Text) -> Ints:
    return text.labels


def _denominator(batch: BatchPlan) -> int:
    return batch.loss_tokens


NEXT_TOKEN = MainLoss(labels=_labels, denominator=_denominator, mean="loss", number="loss_tokens")
