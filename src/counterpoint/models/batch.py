"""What a model reads besides its rows."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor

from counterpoint.models.movable import Movable
from counterpoint.models.segments import Sampled, Segments, Windows

NO_PREFIX = -1
"""Number of a row of patches that is no learned one."""


Turns = tuple[Tensor, Tensor]
"""Cosines and sines (rows, 1, pairs) by which pairs of a head's columns turn."""

KeptTurns = dict[Hashable, tuple[Tensor, Turns]]
"""Turns that layers share, with the positions that they are of, by what else they are made from."""

Insert = tuple[Tensor, Tensor]
"""Features (n, hidden) and the rows, int64 (n,), to which they are added."""


@final
class Inserts:
    """What is added in one place of a model.

    No container into which FSDP2 looks: torch 2.13 leads what needs a gradient there through every part that is given
    the batch, and each adds zeros to the gradient of features that it does not read.
    """

    def __init__(self, inserts: Iterable[Insert]) -> None:
        self._inserts = tuple(inserts)

    def __iter__(self) -> Iterator[Insert]:
        return iter(self._inserts)


@dataclass(frozen=True)
class Compared(Movable):
    """What a loss compares the rows of a process with.

    `rows` int64 (n,) are those of this process that leave for items, `item` int64 (n,) the items of the lane that they
    are of, and `extents` int64 (items,) all rows of each. `own` int64 says which of the `targets` (m, width) is that of
    each row, (n,), or of each item, (items,). The sum over all rows, or items, of the global batch is divided by
    `denominator`.
    """

    rows: Tensor
    item: Tensor
    extents: Tensor
    targets: Tensor
    own: Tensor
    denominator: float


@dataclass(frozen=True)
class MtpInputs(Movable):
    """What one depth k of multi-token prediction reads of each row, from the row's own document.

    `ids` int64 (rows,) of the token k rows ahead, NO_TOKEN where there is none; `labels` int64 (rows,), the token that
    follows it, NO_LABEL where there is no loss, and their number in the global batch, `loss_denominator`. `scored` is
    as in TextBatch.
    """

    ids: Tensor
    labels: Tensor
    loss_denominator: float
    scored: Tensor | None = None


@dataclass(frozen=True)
class TextBatch(Movable):
    """Packed documents of tokens.

    `ids` int64 (rows,) with NO_TOKEN at placeholders and padding; `positions` int64 (rows,), from 0 in each document,
    or (rows, 3) of time, height and width; `labels` int64 (rows,), already shifted, NO_LABEL where there is no loss.
    `loss_denominator` is the number of loss tokens of the global batch, 0 if it has none, and `document_denominator` of
    its documents. On several ranks these three describe every row of the rank's context-parallel share and `segments`
    every row of the lane, while the embedding's `inserts`, and those after layers, `deep`, point into the rank's own
    rows. `mtp` are the depths of multi-token prediction, which describe the same rows as `ids`; without them nothing
    further is predicted. `scored` int64 are the rows with a label, None for all: what works row by row in front of the
    loss leaves the others out.
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
    turns: KeptTurns = field(default_factory=dict)
    scored: Tensor | None = None

    def with_inserts(
        self, inserts: Iterable[Insert], deep: Mapping[int, Iterable[Insert]] | None = None
    ) -> "TextBatch":
        """The same batch with these features added by the embedding, and `deep` ones after the layers of these
        numbers."""
        behind = {layer: Inserts(features) for layer, features in (deep or {}).items()}
        return replace(self, inserts=Inserts(inserts), deep=behind)


@dataclass(frozen=True, kw_only=True)
class ItemBatch(Movable):
    """Packed items: `segments` describe every row of the lane, and where learned rows leave in the place of the items'
    own, `sampled` says which for which. `compared` is what each loss of the rows that leave compares them with."""

    segments: Segments
    sampled: Sampled = field(default_factory=Sampled)
    compared: tuple[Compared, ...] = ()


@dataclass(frozen=True)
class PatchBatch(ItemBatch):
    """Packed images of patches.

    `patches` (rows, patch_dim); `coordinates` int64 (rows, 2), the (row, column) of each patch in its image;
    `grids` int64 (rows, 2), the (height, width) of that image in patches; `prefix` int64 (rows,) the number of the
    learned row that stands there, NO_PREFIX at patches and padding. Under tensor parallelism these describe the rank's
    own rows, while `places` int64 (rows, 2) are the coordinates of its context-parallel share, and `windows` describe
    every row of the lane. So do `images`: the first row, and the height and width in patches, of each.
    """

    patches: Tensor
    coordinates: Tensor
    grids: Tensor
    prefix: Tensor
    places: Tensor
    windows: Windows = field(default_factory=lambda: Windows(()))
    images: tuple[tuple[int, int, int], ...] = ()
    turns: KeptTurns = field(default_factory=dict)


@dataclass(frozen=True)
class AudioBatch(ItemBatch):
    """Packed clips; a row is made of a window of frames around its own.

    `frames` (rows, window, mels), zero where `filled` bool (rows, window) says that the clip has no frame; `positions`
    int64 (rows,), from 0 in each clip. All describe the rank's own rows.
    """

    frames: Tensor
    filled: Tensor
    positions: Tensor


@dataclass(frozen=True)
class GivenBatch(ItemBatch):
    """Packed items whose rows were computed beforehand: `values` (rows, width) of this rank's own rows."""

    values: Tensor


@dataclass(frozen=True)
class FeatureBatch(Movable):
    """Packed items whose rows other encoders made: `rows` rows of this rank, to which `inserts` are added.

    `segments` describes every row of the lane, and `compared` is as in ItemBatch.
    """

    rows: int
    segments: Segments
    inserts: Iterable[Insert] = ()
    compared: tuple[Compared, ...] = ()

    def with_inserts(
        self, inserts: Iterable[Insert], deep: Mapping[int, Iterable[Insert]] | None = None
    ) -> "FeatureBatch":
        """The same batch with these features; none is added after a layer."""
        assert not deep, "features of several depths enter a decoder"
        return replace(self, inserts=Inserts(inserts))


Batch = TextBatch | ItemBatch | FeatureBatch
