"""What is trained on: prepared or synthetic sources, and how their documents become batches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from counterpoint.section.of_kind import OfKey
from counterpoint.section.section import Count, Section, Share, Text
from counterpoint.sources import SOURCES
from counterpoint.sources.entry import Entry


def _sections() -> Mapping[str, type[Section]]:
    return dict(SOURCES.items())


DataEntry = Annotated[Entry, OfKey(_sections, default="prepared")]
"""A source: synthetic if the key `synthetic` is there, prepared if there is no key of another."""


def evaluation_names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What metrics call evaluation sets: their split, or the path as well where several have a split of that name."""
    shared = Counter(entry.split for entry in entries)
    return tuple(
        entry.split if shared[entry.split] == 1 else entry.called(number) for number, entry in enumerate(entries)
    )


class DataConfig(Section):
    """Sources and batching; `sequence_tokens` is the budget of a sequence, `tokenizer` a tokenizer.json.

    `max_lost` is the largest share of a dataset's documents that may be left out or have no loss token. `workers` is
    how many threads of a rank read ahead of the step loop.
    """

    train: Annotated[tuple[DataEntry, ...], Field(strict=False, min_length=1)]
    evaluation: Annotated[tuple[DataEntry, ...], Field(strict=False)] = ()
    tokenizer: Text | None = None
    sequence_tokens: Count
    max_lost: Share = 0.1
    packing: bool = False
    balance: Literal["none", "sample", "cost"] = "cost"
    workers: Count = 1
