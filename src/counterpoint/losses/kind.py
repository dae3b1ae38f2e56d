"""What a loss beside the main one says of itself, without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from counterpoint.kinds.drawn import Drawn, nothing_drawn
from counterpoint.kinds.named import named
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.section.section import Matching, Positive, Section

if TYPE_CHECKING:
    from torch import Tensor

    from counterpoint.models.linear_loss import Term
    from counterpoint.models.rows_loss import RowsLoss


class LossSection(Section):
    """What the sections of all such losses have."""

    kind: str
    """Kind of the loss."""
    weight: Positive
    """Factor of the loss's mean where it joins backward; metrics show the mean without it. No unit."""


TargetName = Annotated[str, Matching(r"[a-z0-9_]+", "a name of lowercase letters, digits and _")]


class TargetSection(LossSection):
    """What the sections of losses of items' rows have as well."""

    targets: TargetName
    """Name of the targets that rows are compared with: `targets/NAME.npy` in the folder of each prepared dataset, as
    wide as the rows that leave the module. A synthetic dataset draws them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLoss:
    """A term of each row with a label beside its cross entropy, of two numbers: the logarithm of the sum of all scores'
    exponentials, and the score of the label. Its mean is over the loss tokens of the global batch.

    `term` is the place, `package.module:name`, of what makes of a section a function of both, (rows,) each, to values
    (rows,), which autograd can follow. `plain` is that of a function of (section, scores (rows, words), labels
    (rows,)) to the sum over the rows, in which `verify` says it once more: the two share nothing.
    """

    of_scores: ClassVar[bool] = True
    section: type[LossSection]
    term: str
    plain: str
    drawn: Drawn = nothing_drawn

    def denominator(self, batch: BatchPlan, _rows: ModuleRows, _loss: FurtherLoss) -> int:
        """What the sum over the rows of a step is divided by, known from metadata."""
        return batch.loss_tokens

    def planned(self, section: Any) -> FurtherLoss:
        """What a plan knows of it."""
        return FurtherLoss(section.kind)

    def build(self, section: Any) -> "Term":
        """The term, as the head of a decoder adds it."""
        from counterpoint.models.linear_loss import Term

        return Term(section.weight, named(self.term)(section))

    def plain_sum(self, section: Any, scores: "Tensor", labels: "Tensor") -> "Tensor":
        """The reference of `verify`: the sum of the loss over rows with these scores."""
        found: Tensor = named(self.plain)(section, scores, labels)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLoss:
    """A loss of the rows that leave a module for items, which are compared with targets as wide as they are.

    A section that `is_pooled` has one target for an item, with which the mean of its rows is compared; else each row
    has one. With `sees_all` the targets of all other items in the global batch are there as well, so that the loss of
    an item depends on nothing but its own rows and data. The mean is over rows, or items, of the global batch.

    `of_rows` is the place, `package.module:name`, of a function of (section, rows (n, width), targets (m, width), own
    int64 (n,)) to the sum over the rows, which autograd differentiates; `own` is the index of each row's target.
    `plain` is that of a function of (section, row (width,), targets (m, width), own) to the loss of one row, in which
    `verify` says it once more: the two share nothing.
    """

    of_scores: ClassVar[bool] = False
    section: type[TargetSection]
    is_pooled: Callable[[Any], bool]
    sees_all: bool = False
    of_rows: str
    plain: str
    drawn: Drawn = nothing_drawn

    def denominator(self, batch: BatchPlan, rows: ModuleRows, loss: FurtherLoss) -> int:
        """What the sum of a step is divided by, known from metadata."""
        return sum(1 if loss.is_pooled else item.rows for item in batch.items_of(rows))

    def planned(self, section: Any) -> FurtherLoss:
        """What a plan knows of it."""
        return FurtherLoss(section.kind, section.targets, self.is_pooled(section), self.sees_all)

    def build(self, section: Any) -> "RowsLoss":
        """What attaches the loss to rows."""
        from counterpoint.models.rows_loss import RowsLoss

        return RowsLoss(section.weight, partial(named(self.of_rows), section), self.is_pooled(section))

    def plain_loss(self, section: Any, row: "Tensor", targets: "Tensor", own: int) -> "Tensor":
        """What `verify` compares it with: the loss of one row, or of the mean of an item's."""
        found: Tensor = named(self.plain)(section, row, targets, own)
        return found


LossKind = ScoreLoss | ItemLoss
