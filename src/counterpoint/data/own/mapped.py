"""Datasets with random access, such as those of torch and of Hugging Face, as samples."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, final

from rich.progress import track

from counterpoint.console import console
from counterpoint.data.own.cache import VERSION, SizesCache
from counterpoint.data.own.rows import Convert, LaidRow, RowLayout, digest_of
from counterpoint.data.text.chat import ChatFormat
from counterpoint.errors import DataError
from counterpoint.sources.registered.samples import Samples, SampleSize, SizeTable

PROBED = 16
"""Elements, evenly spaced from the first to the last, whose content is part of a dataset's identity."""

_CHUNK = 256
_REMEMBERED = 16
"""Rows that are kept, since a document with several items is asked for each of them."""


class Elements(Protocol):
    """A dataset with random access: torch's map-style `Dataset`, Hugging Face's `Dataset`, a list."""

    def __len__(self) -> int:
        """The number of elements."""

    def __getitem__(self, index: int, /) -> Any:
        """An element, the same whenever it is asked for."""


@final
class MapDataset:
    """A dataset with random access, for `counterpoint.register_source`.

    `row` makes of an element a conversation in one of the forms of docs/data.md, in which media may be bytes, PIL
    images, numpy arrays, paths, or files as `datasets` gives them, or a `TokenRow`. Names of files are looked up in the
    folder `files`. `chat` names the chat format. Elements and what `row` makes of them must not change, so augment
    nothing at random; `identity` names the version of the data, and the content of 16 elements is compared anyway.
    `workers` threads compute the sizes of all rows, once.
    """

    def __init__(
        self,
        elements: Elements,
        row: Convert,
        *,
        identity: str = "",
        files: str | Path | None = None,
        chat: str = "plain",
        workers: int = 1,
    ) -> None:
        self.elements, self.row, self.chat, self.workers = elements, row, chat, workers
        self.files = None if files is None else Path(files)
        self._declared = identity

    @cached_property
    def identity(self) -> str:
        """A digest of the declared identity, the chat format, the number of elements, and the content of some of them.

        Raises DataError if an element is not the same when it is read again.
        """
        count = len(self.elements)
        if not count:
            raise DataError("the dataset has no element, expected at least one; fill it, or leave it out.")
        chosen = sorted({number * (count - 1) // (PROBED - 1) for number in range(PROBED)})
        digests = [self._digest(number) for number in chosen]
        changed = next((n for n, digest in zip(chosen, digests, strict=True) if self._digest(n) != digest), None)
        if changed is not None:
            raise DataError(
                f"row {changed}: it is another one when it is read again, expected the same, since sizes are computed "
                "once and resumed runs read it again; draw nothing at random in the dataset and in the function of the "
                "row."
            )
        text = json.dumps([self._declared, self.chat, count, digests])
        return f"{count} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def samples(self, chat: ChatFormat | None, tokenizer_digest: str, cache: Path) -> "MappedSamples":
        """The samples; computes their sizes unless the folder `cache` holds them. Raises DataError for a bad row."""
        key = json.dumps([VERSION, self.identity, tokenizer_digest])
        found = SizesCache(cache / hashlib.sha256(key.encode()).hexdigest()[:24])
        samples = MappedSamples(self, RowLayout(self.row, chat, self.files), found)
        if not found.is_there:
            found.write(self._all_rows(samples))
        return samples

    def _digest(self, index: int) -> str:
        try:
            return digest_of(self.row(self.elements[index]))
        except DataError as error:
            raise DataError(f"row {index}: {error}") from error
        except Exception as error:  # Both are the user's.
            raise DataError(f"row {index}: reading it raised {type(error).__name__}: {error}; correct it.") from error

    def _all_rows(self, samples: "MappedSamples") -> Iterator[LaidRow]:
        starts = range(0, len(self.elements), _CHUNK)
        output = console(stderr=True)
        with ThreadPoolExecutor(self.workers) as pool:
            for start in track(
                starts, "sizes of a dataset", console=output, transient=True, disable=not output.is_terminal
            ):
                yield from pool.map(samples.lay, range(start, min(start + _CHUNK, len(self.elements))))


@final
class MappedSamples(Samples):
    """The samples of a `MapDataset`: tokens and sizes from the disk, files from the dataset."""

    def __init__(self, dataset: MapDataset, layout: RowLayout, cache: SizesCache) -> None:
        self._dataset, self._layout, self._cache = dataset, layout, cache
        self._rows = lru_cache(_REMEMBERED)(self.lay)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedSamples, (self._dataset, self._layout, self._cache)

    @property
    def identity(self) -> str:
        """That of the dataset."""
        return self._dataset.identity

    def __len__(self) -> int:
        return len(self._dataset.elements)

    def lay(self, index: int) -> LaidRow:
        """A row as tokens and encoded files; raises DataError, whatever the dataset raises."""
        try:
            element = self._dataset.elements[index]
        except Exception as error:  # The dataset is the user's.
            raise DataError(f"row {index}: reading it raised {type(error).__name__}: {error}; correct it.") from error
        try:
            return self._layout.lay(element)
        except DataError as error:
            raise DataError(f"row {index}: {error}") from error

    def size(self, index: int) -> SampleSize:
        """The size of a row, computed again."""
        return self.lay(index).size

    def tokens(self, index: int) -> Sequence[int]:
        """The tokens of a row, from the disk."""
        found: list[int] = self._cache.tokens(index).tolist()
        return found

    def files(self, index: int, which: int) -> Sequence[bytes]:
        """The files of an item, from the dataset; raises DataError if it is not what it was."""
        items, expected = self._rows(index).items, self._cache.file_bytes(index)
        found = [[len(data) for data in item.files] for item in items]
        if found != expected:
            raise DataError(
                f"row {index}: its files have {found} bytes, but {expected} when sizes were computed; give the dataset "
                "another identity if it has changed."
            )
        return items[which].files

    def table(self) -> SizeTable:
        """The sizes of all rows, from the disk."""
        return self._cache.table
