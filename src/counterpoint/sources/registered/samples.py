"""The contract of data of one's own: sizes of samples without their payload, and tokens and files by index."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import SIZES, Extent
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.item_table import ItemTable


@final
@dataclass(frozen=True, slots=True)
class SampleItem:
    """An item of a sample: the token that it precedes, its `kind` (`image`, `audio`, ...), its size as `extent`, and
    the number of its `files`.

    An extent is (height, width) in pixels of an image or a depth map, (samples,) at 16 kHz of a clip, (rows, width) of
    features. An image of several files is a video.
    """

    position: int
    kind: str
    extent: Extent
    files: int = 1


@final
@dataclass(frozen=True, slots=True)
class SampleSize:
    """A sample without its content: the number of its tokens, `targets`, ascending spans [first, stop) of tokens with a
    loss, and its items, by position."""

    tokens: int
    targets: tuple[tuple[int, int], ...]
    items: tuple[SampleItem, ...] = ()


class Samples(ABC):
    """Samples of one's own, by index.

    All methods return the same for the same index, in every process and in every run: planning and resuming rely on it.
    Instances can be pickled, since processes get copies. Methods may be called from several threads at once.
    """

    is_sequential: bool = False
    """Whether samples can be read in their order only; such a source cannot be shuffled."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A digest of the content, which checkpoints hold: a run does not resume with another one."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def size(self, index: int) -> SampleSize:
        """The size of a sample; it is called for all samples when the source is opened, and reads no payload."""

    @abstractmethod
    def tokens(self, index: int) -> Sequence[int]:
        """The ids of a sample's tokens, as many as its size says."""

    @abstractmethod
    def files(self, index: int, which: int) -> Sequence[bytes]:
        """The encoded files of item `which` of a sample; raises DataError for an item that cannot be read.

        An unreadable item does not end a run: neutral rows of its size replace it, and it is counted.
        """

    def table(self) -> "SizeTable":
        """The sizes of all samples."""
        return SizeTable.of(self.size(index) for index in range(len(self)))


@final
@dataclass(frozen=True)
class SizeTable:
    """The sizes of all samples as arrays: `lengths` int64 (samples,) in tokens, `spans` int64 (spans, 3) with the
    sample, the first token and the stop of each run of targets, and `items`.

    `largest_id` is the largest token of any sample, None if it is not known.
    """

    lengths: Ints
    spans: Ints
    items: ItemTable
    largest_id: int | None = None

    @classmethod
    def of(cls, sizes: Iterable[SampleSize]) -> "SizeTable":
        """The table of some sizes; raises DataError for one that contradicts itself."""
        lengths: list[int] = []
        spans: list[tuple[int, int, int]] = []
        owners: list[int] = []
        positions: list[int] = []
        kinds: list[str] = []
        extents: list[list[int]] = []
        for number, size in enumerate(sizes):
            _check(number, size)
            lengths.append(size.tokens)
            spans += [(number, first, stop) for first, stop in size.targets]
            for item in size.items:
                owners.append(number)
                positions.append(item.position)
                kinds.append(item.kind)
                columns = dict(zip(MODALITIES[item.kind].columns, item.extent, strict=True))
                extents.append([*(columns.get(name, 0) for name in SIZES), item.files, item.files])
        of_kind = np.array(kinds, dtype=np.str_)
        items = ItemTable(
            len(lengths),
            np.array(owners, dtype=np.int64),
            np.array(positions, dtype=np.int64),
            {kind: of_kind == kind for kind in MODALITIES},
            np.array(extents, dtype=np.int64).reshape(-1, len(SIZES) + 2),
        )
        return cls(np.array(lengths, dtype=np.int64), np.array(spans, dtype=np.int64).reshape(-1, 3), items)

    def targets_between(self, first: Ints, stop: Ints) -> Ints:
        """Number of targets from token `first` up to, but not including, token `stop` of each sample, (samples,)."""
        owners, begins, ends = self.spans.T
        counts = np.minimum(ends, stop[owners]) - np.maximum(begins, first[owners])
        total = np.zeros(len(self.lengths), np.int64)
        np.add.at(total, owners, np.maximum(counts, 0))
        return total


def _check(number: int, size: SampleSize) -> None:
    bounds = [0, *(bound for span in size.targets for bound in span), size.tokens]
    if bounds != sorted(bounds) or any(first == stop for first, stop in size.targets):
        raise DataError(
            f"sample {number}: its targets {size.targets} are no ascending spans within its {size.tokens} tokens; "
            "correct its size."
        )
    places = [0, *(item.position for item in size.items), size.tokens]
    if places != sorted(places):
        raise DataError(
            f"sample {number}: the positions {places[1:-1]} of its items do not ascend within 0 to {size.tokens}; "
            "correct its size."
        )
    for item in size.items:
        if item.kind not in MODALITIES:
            raise DataError(
                f"sample {number}: it has an item of kind '{item.kind}', expected one of {', '.join(MODALITIES)}; "
                "correct its size."
            )
        columns = MODALITIES[item.kind].columns
        if len(item.extent) != len(columns) or min(*item.extent, item.files) < 1:
            raise DataError(
                f"sample {number}: an item of kind '{item.kind}' has the size {item.extent} in {item.files} files, "
                f"expected positive numbers ({', '.join(columns)}) and at least one file; correct its size."
            )
