"""What the main loss of a plan says of itself, without torch: that of the rows of documents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from counterpoint.plan.batch import BatchPlan

if TYPE_CHECKING:
    from counterpoint.kinds.arrays import Ints


class Text(Protocol):
    """A document as it was read: `labels` (rows,) are the tokens after its rows, NO_LABEL where there is no target."""

    @property
    def labels(self) -> "Ints": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MainLoss:
    """A sum over the rows that have a label, divided by one denominator of the global batch, so that parts add up.

    `labels` gives those of a document's rows, int64 (rows,), NO_LABEL where a row has no loss. `denominator` is known
    from metadata, before anything is read, and 0 for a batch without a loss. Metrics call the loss `mean` and its
    denominator `number`.
    """

    labels: Callable[[Text], "Ints"]
    denominator: Callable[[BatchPlan], int]
    mean: str
    number: str
