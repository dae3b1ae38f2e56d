"""From a config to its data: how items enter modules, the tokenizer, the corpus, and the identity for resuming."""

from dataclasses import replace
from pathlib import Path

from counterpoint.config.data import evaluation_names
from counterpoint.config.graph import marks_of
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus, EvaluationSplit
from counterpoint.data.fingerprint import DataIdentity, data_fingerprint
from counterpoint.data.order.blend import integer_weights
from counterpoint.data.order.order import Order, SequentialOrder
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.families import intake_of
from counterpoint.kinds.modality import Intakes
from counterpoint.losses import LOSSES
from counterpoint.plugins.load import versions_of
from counterpoint.sources.blocks import blocks_of
from counterpoint.sources.entry import Opening
from counterpoint.sources.source import check_targets


def intakes_of(config: Config) -> Intakes:
    """How items become rows, by module that reads items."""
    found = {name: intake_of(name, config.modules[name].model, mark) for name, mark in marks_of(config).items()}
    return {name: intake for name, intake in found.items() if intake is not None}


def _targets(config: Config) -> tuple[str, ...]:
    """The names of all targets that losses compare rows with, ascending."""
    planned = (LOSSES[loss.kind].planned(loss) for module in config.modules.values() for loss in module.losses)
    return tuple(sorted({loss.targets for loss in planned if loss.targets is not None}))


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
    opening = Opening(intakes_of(config), config.data.sequence_tokens, vocab, digest, extra_depths, _targets(config))
    sources = tuple(entry.open(number, opening) for number, entry in enumerate(config.data.train))
    order = Order(
        seed=config.run.seed,
        sizes=tuple(len(source) for source in sources),
        weights=integer_weights([entry.weight for entry in config.data.train]),
        window=config.training.global_batch_samples,
        sequence_tokens=budget,
        blocks=tuple(blocks_of(source) for source in sources),
    )
    splits = []
    for name, entry in zip(evaluation_names(config.data.evaluation), config.data.evaluation, strict=True):
        source = entry.open(0, replace(opening, mtp_depths=0))
        order_of = SequentialOrder((len(source),), config.evaluation.batch_samples, budget)
        splits.append(EvaluationSplit(name, (source,), order_of))
    for source in (*sources, *(source for split in splits for source in split.sources)):
        check_targets(source, *opening.targets)
    names = tuple(entry.called(number) for number, entry in enumerate(config.data.train))
    return Corpus(sources, order, tuple(splits), names)
