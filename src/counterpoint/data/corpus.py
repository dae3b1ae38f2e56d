"""The data of a run, opened: the sources of training in their order, and the evaluation sets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from counterpoint.data.order.order import Exclusion, Order, SequentialOrder
from counterpoint.plan.samples import Pack
from counterpoint.sources.census import Census
from counterpoint.sources.source import Source


@dataclass(frozen=True)
class EvaluationSplit:
    """One evaluation set, read in order, once."""

    name: str
    sources: tuple[Source, ...]
    order: SequentialOrder

    def batches(self) -> Iterator[tuple[Pack, ...]]:
        """The packs of each batch; the last one holds what remains."""
        for step in range(self.order.steps):
            yield self.order.packs(step, self.sources)


@dataclass(frozen=True)
class Corpus:
    """Sources and order of training, and the evaluation splits; `names` are those of the sources."""

    sources: tuple[Source, ...]
    order: Order
    evaluation: tuple[EvaluationSplit, ...]
    names: tuple[str, ...]

    def packs(self, step: int) -> tuple[Pack, ...]:
        """The packs of a training step."""
        return self.order.packs(step, self.sources)

    def censuses(self) -> Iterator[tuple[str, Census]]:
        """The census of each dataset, by the dataset's name."""
        for name, source in zip(self.names, self.sources, strict=True):
            yield f"train {name}", source.census
        for split in self.evaluation:
            for source in split.sources:
                yield f"evaluation {split.name}", source.census

    def without(self, exclusions: Iterable[Exclusion]) -> "Corpus":
        """The same data without some documents, each excluded from a step on."""
        return replace(self, order=replace(self.order, exclusions=(*self.order.exclusions, *exclusions)))
