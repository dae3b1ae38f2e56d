"""What is trained on: prepared or synthetic sources, and how their documents become batches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from counterpoint.section.of_kind import OfKey
from counterpoint.section.section import Count, Index, Positive, Section, Share, Text
from counterpoint.sources import SOURCES
from counterpoint.sources.entry import Entry, UnknownEntry


def _sections() -> Mapping[str, type[Section]]:
    return dict(SOURCES.items())


DataEntry = Annotated[Entry, OfKey(_sections, default="prepared", unknown=UnknownEntry)]
"""A source: synthetic if the key `synthetic` is there, prepared if there is no key of another."""


def evaluation_names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What metrics call evaluation sets: their split, or the path as well where several have a split of that name."""
    shared = Counter(entry.split for entry in entries)
    return tuple(
        entry.split if shared[entry.split] == 1 else entry.called(number) for number, entry in enumerate(entries)
    )


class DataConfig(Section):
    """What is trained and evaluated on, and how documents become batches."""

    train: Annotated[tuple[DataEntry, ...], Field(strict=False, min_length=1)]
    """The sources of training documents, blended by their `weight`. An entry with the key `synthetic` is synthetic, one
    with `path` is a prepared dataset, one with `registered` comes from a Python program."""
    evaluation: Annotated[tuple[DataEntry, ...], Field(strict=False)] = ()
    """The evaluation sets, each evaluated by itself."""
    tokenizer: Text | None = None
    """Path of the tokenizer.json that the data were prepared with; needed where a decoder's `vocab` is `tokenizer`, and
    by `evaluate` and `generate`."""
    sequence_tokens: Count
    """Longest sequence, items included, and the token budget of a pack with `packing`. Longer documents are cut there.
    Unit: tokens."""
    max_lost: Share = 0.1
    """Largest share of a dataset's documents that may be left out or have no loss token; above it the dataset is
    refused before ranks start. Unit: share of documents."""
    packing: bool = False
    """Whether several documents share a sequence of `sequence_tokens`. They never attend to one another."""
    window_steps: Count = 1
    """Steps whose documents are packed together and then dealt to these steps, so that each has as many packs at about
    the same cost, and sequences are filled better; 1: each step's documents are packed by themselves. Unit: steps."""
    epochs: Count | None = None
    """Times that every document of every source is trained on, exactly; `training.steps` must be the steps that this
    takes, and sources have no weights. Null: sources are blended by their weights for `training.steps`.
    Unit: epochs."""
    balance: Literal["none", "sample", "cost"] = "cost"
    """How a step's sequences are dealt to the language model's data-parallel ranks, and the items of a microbatch to an
    encoder's: `cost` balances the estimated work, of whole sequences and single items; `sample` does so without parting
    the items of a document; `none` deals equal numbers in order."""
    workers: Count = 4
    """Threads of each rank that read and decode items ahead of the step. Unit: threads."""
    processes: Literal["auto"] | Index = "auto"
    """Processes beside each rank among which these threads are shared out, so that reading never holds up the thread
    that launches the step's kernels; 0: they are threads of the rank itself; `auto`: 1 on GPUs, else 0. More than 1 pay
    with many workers. Each opens the sources for itself. Unit: processes."""
    prefetch_steps: Count = 2
    """Steps that are read ahead, all of them in memory. A sample that takes long to decode holds up training only if it
    takes longer than these steps. Unit: steps."""
    read_timeout_seconds: Positive | None = 60.0
    """Time after which the reading of an item counts as stalled. It is tried three times; then the run ends with an
    error that names the file. Null: it is waited for, until the watchdog ends the run. Unit: seconds."""
