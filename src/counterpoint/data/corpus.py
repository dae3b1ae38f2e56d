"""The data of a run: what its config names, opened."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from counterpoint.config.data import evaluation_names
from counterpoint.config.schema import Config
from counterpoint.data.intakes import intakes_of
from counterpoint.data.order.blend import integer_weights
from counterpoint.data.order.order import Exclusion, Order, SequentialOrder
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.plan.samples import Pack
from counterpoint.sources.census import Census
from counterpoint.sources.entry import Opening
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
    """Sources and order of training, and the evaluation splits; `names` are what the sources are called."""

    sources: tuple[Source, ...]
    order: Order
    evaluation: tuple[EvaluationSplit, ...]
    names: tuple[str, ...]

    def packs(self, step: int) -> tuple[Pack, ...]:
        """The packs of a training step."""
        return self.order.packs(step, self.sources)

    def censuses(self) -> Iterator[tuple[str, Census]]:
        """What becomes of the documents of each dataset, by what it is called."""
        for name, source in zip(self.names, self.sources, strict=True):
            yield f"train {name}", source.census
        for split in self.evaluation:
            for source in split.sources:
                yield f"evaluation {split.name}", source.census

    def without(self, exclusions: Iterable[Exclusion]) -> "Corpus":
        """The same data less some documents, each from a step on."""
        return replace(self, order=replace(self.order, exclusions=(*self.order.exclusions, *exclusions)))


def open_tokenizer(config: Config) -> Tokenizer | None:
    """The tokenizer that the config names, if any."""
    return None if config.data.tokenizer is None else Tokenizer.load(Path(config.data.tokenizer))


def open_corpus(config: Config, tokenizer: Tokenizer | None, vocab: int, extra_depths: int) -> Corpus:
    """Open everything that `data` names, for documents of `vocab` words of which `extra_depths` more than the next one
    are predicted; raises DataError."""
    budget = config.data.sequence_tokens if config.data.packing else None
    digest = None if tokenizer is None else tokenizer.digest
    opening = Opening(intakes_of(config), config.data.sequence_tokens, vocab, digest, extra_depths)
    sources = tuple(entry.open(number, opening) for number, entry in enumerate(config.data.train))
    order = Order(
        seed=config.run.seed,
        sizes=tuple(len(source) for source in sources),
        weights=integer_weights([entry.weight for entry in config.data.train]),
        window=config.training.global_batch_samples,
        sequence_tokens=budget,
    )
    splits = []
    for name, entry in zip(evaluation_names(config.data.evaluation), config.data.evaluation, strict=True):
        source = entry.open(0, replace(opening, mtp_depths=0))
        order_of = SequentialOrder((len(source),), config.evaluation.batch_samples, budget)
        splits.append(EvaluationSplit(name, (source,), order_of))
    names = tuple(entry.called(number) for number, entry in enumerate(config.data.train))
    return Corpus(sources, order, tuple(splits), names)
