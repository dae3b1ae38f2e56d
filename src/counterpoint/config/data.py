"""What is trained on: prepared or synthetic sources, and how their documents become batches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from counterpoint.section.section import Count, Index, Positive, Section, Share, Text


class ConstantConfig(Section):
    """Always `value`."""

    kind: Literal["constant"]
    value: Index


class UniformConfig(Section):
    """An integer from `low` to `high`, both included, each as likely as any other."""

    kind: Literal["uniform"]
    low: Index
    high: Index


class LognormalConfig(Section):
    """exp(N(log(median), sigma)), rounded and clipped to `low` ... `high`."""

    kind: Literal["lognormal"]
    median: Positive
    sigma: Positive
    low: Index
    high: Index


Distribution = Annotated[ConstantConfig | UniformConfig | LognormalConfig, Field(discriminator="kind")]
"""A declared distribution of non-negative integers."""


def largest(distribution: ConstantConfig | UniformConfig | LognormalConfig) -> int:
    """The largest value that a distribution can draw."""
    return distribution.value if isinstance(distribution, ConstantConfig) else distribution.high


def smallest(distribution: ConstantConfig | UniformConfig | LognormalConfig) -> int:
    """The smallest value that a distribution can draw."""
    return distribution.value if isinstance(distribution, ConstantConfig) else distribution.low


class SyntheticConfig(Section):
    """Documents that are a pure function of (seed, index).

    `without_images`, `without_audio`, `without_features` and `without_loss` are the shares of documents that have no
    image, no clip, no features and no loss token; image sides are in pixels. Each item goes to one of the `modules` of
    its kind by its share of them (left out: to any encoder of the kind alike); `without` are the shares of documents
    that have none of a module. A clip is at most as long as its module takes it, features are as wide.
    """

    documents: Count
    seed: Index = 0
    text_tokens: Distribution
    images_per_document: Distribution = ConstantConfig(kind="constant", value=0)
    without_images: Share = 0.0
    image_height: Distribution = ConstantConfig(kind="constant", value=224)
    image_width: Distribution = ConstantConfig(kind="constant", value=224)
    audio_per_document: Distribution = ConstantConfig(kind="constant", value=0)
    without_audio: Share = 0.0
    audio_milliseconds: Distribution = ConstantConfig(kind="constant", value=1000)
    features_per_document: Distribution = ConstantConfig(kind="constant", value=0)
    without_features: Share = 0.0
    feature_rows: Distribution = ConstantConfig(kind="constant", value=64)
    without_loss: Share = 0.0
    modules: dict[Text, Positive] = Field(default_factory=dict)
    without: dict[Text, Share] = Field(default_factory=dict)


class PreparedEntry(Section):
    """A split of a folder that `counterpoint prepare` wrote, and its weight in the blend."""

    path: Text
    split: Text = "train"
    weight: Positive = 1.0


class SyntheticEntry(Section):
    """A synthetic source and its weight in the blend."""

    synthetic: SyntheticConfig
    weight: Positive = 1.0


def _entry_tag(entry: object) -> str:
    is_synthetic = "synthetic" in entry if isinstance(entry, Mapping) else isinstance(entry, SyntheticEntry)
    return SyntheticEntry.__name__ if is_synthetic else PreparedEntry.__name__


DataEntry = Annotated[
    Annotated[PreparedEntry, Tag(PreparedEntry.__name__)] | Annotated[SyntheticEntry, Tag(SyntheticEntry.__name__)],
    Discriminator(_entry_tag),
]
"""Synthetic if the key `synthetic` is there, prepared otherwise."""


def evaluation_names(entries: Sequence[PreparedEntry | SyntheticEntry]) -> tuple[str, ...]:
    """What metrics call evaluation sets: their split, or the path as well where several have a split of that name."""
    shared = Counter(_split(entry) for entry in entries)
    return tuple(
        _split(entry) if shared[_split(entry)] == 1 else entry_name(number, entry)
        for number, entry in enumerate(entries)
    )


def _split(entry: PreparedEntry | SyntheticEntry) -> str:
    return entry.split if isinstance(entry, PreparedEntry) else "synthetic"


def entry_name(number: int, entry: PreparedEntry | SyntheticEntry) -> str:
    """What a dataset is called: its path and split, or that it is synthetic and which entry it is."""
    return f"{entry.path}:{entry.split}" if isinstance(entry, PreparedEntry) else f"synthetic:{number}"


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
