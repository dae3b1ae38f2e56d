"""Facts of a model before it is built: parts, parameters, work, memory and row widths."""

from collections.abc import Iterable
from dataclasses import dataclass

from counterpoint.plan.cost import Cost, Load, added
from counterpoint.plan.part_facts import PartFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A whole model: its parts in order, and the rows that enter and leave it.

    Inside it rows have `hidden` columns. `row_multiple` input rows must stay together; `residual_sums` sublayers are
    added to the rows. The module puts `prefix` rows of its own before the input rows of each item. With `queries` that
    many learned rows leave for each item, and none of its own. With `is_tied` the head is the embedding. Beside the
    next token `extra_depths` more are predicted; positions have `position_axes` coordinates; documents are made of
    `vocab` words.
    """

    parts: tuple[PartFacts, ...]
    hidden: int
    hidden_in: int
    hidden_out: int
    row_multiple: int
    residual_sums: int
    prefix: int = 0
    queries: int = 0
    vocab: int = 0
    is_tied: bool = False
    extra_depths: int = 0
    position_axes: int = 1

    @property
    def reads_words_last(self) -> bool:
        """Whether the last stage reads the embedding; it holds a copy unless it is also the first."""
        return self.is_tied or self.extra_depths > 0

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def active_parameters(self) -> int:
        """Parameters that one row uses: all but those of experts that it is not routed to."""
        return sum(part.parameters - part.expert_parameters + part.active_expert_parameters for part in self.parts)

    def load(self, rows: Iterable[int]) -> Load:
        """The load of documents, or items, with these numbers of input rows, each with its prefix."""
        return Load(self.prefix + n for n in rows)

    def forward_flops(self, rows: int) -> int:
        """Forward FLOPs of one document, or image, of `rows` input rows."""
        return self.cost.of(rows)

    @property
    def cost(self) -> Cost:
        """Forward FLOPs of a document, or item, by which loads are balanced."""
        return Cost(
            per_row=sum(part.flops_per_row for part in self.parts),
            per_pair=added(part.flops_per_pair for part in self.parts),
            prefix=self.prefix,
            per_item=sum(part.flops_per_item for part in self.parts),
        )
