"""Opens a registered source: its dataset as samples, and these as documents."""

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from counterpoint.data.text.chat import ChatFormat
from counterpoint.data.text.formats import named_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.entry import Opening
from counterpoint.sources.registered.registered import REGISTERED_SOURCES
from counterpoint.sources.registered.samples import Samples
from counterpoint.sources.registered.source import SamplesSource
from counterpoint.sources.registered.spec import RegisteredEntry


@runtime_checkable
class Wrapped(Protocol):
    """A dataset whose rows become samples by a chat format."""

    chat: str

    def samples(self, chat: ChatFormat | None, tokenizer_digest: str, cache: Path) -> Samples:
        """Its samples, with sizes in a folder below `cache` if they are computed."""


def open_registered(entry: RegisteredEntry, number: int, opening: Opening) -> SamplesSource:
    """Open the source of an entry; raises DataError, also for a stream that is to be shuffled."""
    name = f"registered dataset {entry.called(number)}"
    dataset = REGISTERED_SOURCES[entry.registered].dataset(entry.split, entry.options)
    if isinstance(dataset, Samples):
        samples: Samples = dataset
    elif isinstance(dataset, Wrapped):
        tokenizer = None if opening.tokenizer is None else Tokenizer.load(opening.tokenizer)
        chat = None if tokenizer is None else named_format(dataset.chat, tokenizer)
        digest = "" if tokenizer is None else tokenizer.digest
        try:
            samples = dataset.samples(chat, digest, _cache_folder() if entry.cache is None else Path(entry.cache))
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    else:
        raise DataError(
            f"{name}: got a {type(dataset).__name__}, expected a MapDataset, a StreamDataset or Samples; wrap it in "
            "one of these."
        )
    is_sequential = entry.order == "sequential"
    if samples.is_sequential and not is_sequential:
        raise DataError(
            f"{name}: it is a stream, which cannot be shuffled, but its order is 'shuffled'; add `order: sequential` "
            "to its entry, and shuffle the stream itself."
        )
    return SamplesSource(samples, name, number, opening, is_sequential=is_sequential)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "counterpoint" / "sources"
