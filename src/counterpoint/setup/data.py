"""From a config to its data: how items enter modules, the tokenizer, the corpus, and the identity for resuming."""

from dataclasses import replace
from pathlib import Path

from counterpoint.config.data import evaluation_names
from counterpoint.config.graph import marks_of
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus, EvaluationSplit
from counterpoint.data.fingerprint import DataIdentity, data_fingerprint
from counterpoint.data.order.blend import integer_weights, whole_epochs
from counterpoint.data.order.order import Order, SequentialOrder
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.families import intake_of
from counterpoint.kinds.modality import Intakes
from counterpoint.losses import LOSSES
from counterpoint.plugins.load import versions_of
from counterpoint.sources.blocks import blocks_of
from counterpoint.sources.entry import Opening, taken_of
from counterpoint.sources.source import InOrder, Source, check_targets


def intakes_of(config: Config) -> Intakes:
    """How items become rows, by module that reads items."""
    found = {name: intake_of(name, config.modules[name].model, mark) for name, mark in marks_of(config).items()}
    return {name: intake for name, intake in found.items() if intake is not None}


def _targets(config: Config) -> tuple[str, ...]:
    """The names of all targets that losses compare rows with, ascending."""
    planned = (LOSSES[loss.kind].planned(loss) for module in config.modules.values() for loss in module.losses)
    return tuple(sorted({loss.targets for loss in planned if loss.targets is not None}))


def _is_in_order(source: Source) -> bool:
    return isinstance(source, InOrder) and source.is_sequential


def open_tokenizer(config: Config) -> Tokenizer | None:
    """The tokenizer that the config names, if any."""
    return None if config.data.tokenizer is None else Tokenizer.load(Path(config.data.tokenizer))


def identity_of(config: Config) -> DataIdentity:
    """The data identity that a run shares with its checkpoints; raises DataError for an unreadable manifest."""
    fingerprint = data_fingerprint(config.data, config.training.global_batch_samples, intakes_of(config))
    return DataIdentity(config.run.seed, fingerprint, versions_of(config.run.plugins))


def open_corpus(config: Config, tokenizer: Tokenizer | None, vocab: int, extra_depths: int) -> Corpus:
    """Open everything that `data` names, for a vocabulary of `vocab` words and `extra_depths` predicted tokens beyond
    the next; raises DataError."""
    budget = config.data.sequence_tokens if config.data.packing else None
    digest = None if tokenizer is None else tokenizer.digest
    opening = Opening(
        intakes_of(config), config.data.sequence_tokens, vocab, digest, extra_depths, _targets(config),
        None if config.data.tokenizer is None else Path(config.data.tokenizer),
    )  # fmt: skip
    entries = config.data.train
    sources = tuple(entry.open(number, opening.of(entry)) for number, entry in enumerate(entries))
    counts = tuple(taken_of(entry, source) for entry, source in zip(entries, sources, strict=True))
    order = Order(
        seed=config.run.seed,
        sizes=tuple(len(source) for source in sources),
        weights=integer_weights([e.weight for e in entries]) if config.data.epochs is None else whole_epochs(counts),
        window=config.training.global_batch_samples,
        sequence_tokens=budget,
        blocks=tuple(blocks_of(source) for source in sources),
        window_steps=config.data.window_steps,
        epochs=config.data.epochs,
        counts=counts,
        alone=frozenset(number for number, entry in enumerate(entries) if not entry.packing),
        sequential=frozenset(number for number, source in enumerate(sources) if _is_in_order(source)),
    )
    _check_steps(config, order)
    splits = []
    for name, entry in zip(evaluation_names(config.data.evaluation), config.data.evaluation, strict=True):
        source = entry.open(0, replace(opening.of(entry), mtp_depths=0))
        size, packed = taken_of(entry, source), budget if entry.packing else None
        order_of = SequentialOrder((size,), config.evaluation.batch_samples, packed)
        splits.append(EvaluationSplit(name, (source,), order_of))
    for source in (*sources, *(source for split in splits for source in split.sources)):
        check_targets(source, *opening.targets)
    names = tuple(
        entry.called(number) + ("" if count == len(source) else f", {count:,} taken of")
        for number, (entry, source, count) in enumerate(zip(entries, sources, counts, strict=True))
    )
    return Corpus(sources, order, tuple(splits), names)


def _check_steps(config: Config, order: Order) -> None:
    """Raise DataError if the training has other steps than `data.epochs` take."""
    if order.steps is not None and config.training.steps != order.steps:
        documents = sum(order.counts)
        raise DataError(
            f"training.steps: got {config.training.steps}, expected {order.steps}, which {config.data.epochs} epochs "
            f"of {documents:,} documents take, {order.window} a step; set training.steps={order.steps}, or leave "
            "data.epochs out."
        )
