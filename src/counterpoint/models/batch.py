"""The inputs of models besides rows."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor

from counterpoint.models.movable import Movable
from counterpoint.models.segments import Sampled, Segments, Windows

NO_PREFIX = -1
"""Marks rows in `PatchBatch.prefix` that are not learned prefix rows."""


CosSin = tuple[Tensor, Tensor]
"""Cosines and sines (rows, 1, pairs) of the rotation angles of a head's pairs of columns."""

CosSinCache = dict[Hashable, tuple[Tensor, CosSin]]
"""Cosines and sines that layers share, with the positions they were computed from, by all other arguments."""

Insert = tuple[Tensor, Tensor]
"""Features (n, hidden) and the rows, int64 (n,), to which they are added."""


@final
class Inserts:
    """Features that are added at one place of a model.

    A class that FSDP2 does not traverse: torch 2.13 would pass tensors in a list or tuple through the hooks of every
    part that receives the batch, and each part would add zeros to the gradients of features that it does not read.
    """

    def __init__(self, inserts: Iterable[Insert]) -> None:
        self._inserts = tuple(inserts)

    def __iter__(self) -> Iterator[Insert]:
        return iter(self._inserts)


@dataclass(frozen=True)
class Compared(Movable):
    """The inputs of a loss of item rows, besides the rows.

    `rows` int64 (n,) are this process's output rows that belong to items, `item` int64 (n,) the item in the lane of
    each, and `extents` int64 (items,) the number of rows of each item on all processes. `own` int64 is the index among
    `targets` (m, width) of the target of each row, (n,), or of each item, (items,). The sum over all rows, or items, of
    the global batch is divided by `denominator`.
    """

    rows: Tensor
    item: Tensor
    extents: Tensor
    targets: Tensor
    own: Tensor
    denominator: float


@dataclass(frozen=True)
class MtpInputs(Movable):
    """The inputs of depth k of multi-token prediction; tokens ahead are those of the row's own document.

    `ids` int64 (rows,) are the tokens k rows ahead, NO_TOKEN where there is none; `labels` int64 (rows,) the tokens
    after those, NO_LABEL where there is no loss; `loss_denominator` is the number of labels in the global batch.
    `scored` is as in TextBatch.
    """

    ids: Tensor
    labels: Tensor
    loss_denominator: float
    scored: Tensor | None = None


@dataclass(frozen=True)
class TextBatch(Movable):
    """Packed documents of tokens.

    `ids` int64 (rows,) have NO_TOKEN at placeholders and padding. `positions` int64 are (rows,), from 0 in each
    document, or (rows, 3) of time, height and width. `labels` int64 (rows,) are already shifted, NO_LABEL where there
    is no loss. These three describe the rank's context-parallel share, `segments` all rows of the lane. The
    embedding's `inserts`, and the inserts after layers, `deep`, point into the rank's own rows.

    `loss_denominator` and `document_denominator` are the numbers of loss tokens and of documents in the global batch.
    `mtp` are the depths of multi-token prediction, for the same rows as `ids`; empty without it. `scored` int64 are the
    rows with a label, None for all rows: row-wise parts before the loss compute these rows only. `extents` int64
    (rows,) are the number of positions of each row's document, the largest coordinate plus one, for the same rows as
    `positions`; without them angles may not depend on it. With `is_even` all lanes of the module have as many rows.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    segments: Segments
    loss_denominator: float
    inserts: Iterable[Insert] = ()
    deep: Mapping[int, Iterable[Insert]] = field(default_factory=dict)
    document_denominator: float = 0.0
    mtp: tuple[MtpInputs, ...] = ()
    cos_sin: CosSinCache = field(default_factory=dict)
    scored: Tensor | None = None
    extents: Tensor | None = None
    is_even: bool = False

    def with_inserts(
        self, inserts: Iterable[Insert], deep: Mapping[int, Iterable[Insert]] | None = None
    ) -> "TextBatch":
        """The same batch with features for the embedding to add, and `deep` ones by the layer after which they are
        added."""
        after_layers = {layer: Inserts(features) for layer, features in (deep or {}).items()}
        return replace(self, inserts=Inserts(inserts), deep=after_layers)


@dataclass(frozen=True, kw_only=True)
class ItemBatch(Movable):
    """Packed items.

    `segments` describe all rows of the lane. If a resampler replaces the rows of items with learned ones, `sampled`
    maps them. `compared` holds the inputs of each loss of the output rows.
    """

    segments: Segments
    sampled: Sampled = field(default_factory=Sampled)
    compared: tuple[Compared, ...] = ()


@dataclass(frozen=True)
class PatchBatch(ItemBatch):
    """Packed images of patches.

    `patches` (rows, patch_dim); `coordinates` int64 (rows, 2), the (row, column) of each patch in its image; `grids`
    int64 (rows, 2), the (height, width) of its image in patches; `prefix` int64 (rows,), the number of a learned prefix
    row, NO_PREFIX at patches and padding. Under tensor parallelism these describe the rank's own rows. `places` int64
    (rows, 2) are the coordinates in its context-parallel share. `windows` and `images` describe the whole lane; an
    image has its first row, and its height and width in patches.
    """

    patches: Tensor
    coordinates: Tensor
    grids: Tensor
    prefix: Tensor
    places: Tensor
    windows: Windows = field(default_factory=lambda: Windows(()))
    images: tuple[tuple[int, int, int], ...] = ()
    cos_sin: CosSinCache = field(default_factory=dict)


@dataclass(frozen=True)
class AudioBatch(ItemBatch):
    """Packed clips; each row is computed from a window of frames.

    `frames` (rows, window, mels) are zero where `filled` bool (rows, window) is False, beyond the ends of the clip;
    `positions` int64 (rows,) count from 0 in each clip. All describe the rank's own rows.
    """

    frames: Tensor
    filled: Tensor
    positions: Tensor


@dataclass(frozen=True)
class GivenBatch(ItemBatch):
    """Packed items with precomputed rows: `values` (rows, width) are this rank's own rows."""

    values: Tensor


@dataclass(frozen=True)
class FeatureBatch(Movable):
    """Packed items whose rows come from other encoders: `inserts` are added to `rows` zero rows of this rank.

    `segments` describe all rows of the lane; `compared` is as in ItemBatch.
    """

    rows: int
    segments: Segments
    inserts: Iterable[Insert] = ()
    compared: tuple[Compared, ...] = ()

    def with_inserts(
        self, inserts: Iterable[Insert], deep: Mapping[int, Iterable[Insert]] | None = None
    ) -> "FeatureBatch":
        """The same batch with these features; an adapter has no inserts after layers."""
        assert not deep, "features of several depths enter a decoder"
        return replace(self, inserts=Inserts(inserts))


Batch = TextBatch | ItemBatch | FeatureBatch
