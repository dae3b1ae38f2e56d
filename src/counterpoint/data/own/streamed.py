"""Datasets that can be read in their order only, whose sizes are declared ahead."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, final

from counterpoint.data.own.rows import Convert, LaidRow, RowLayout
from counterpoint.data.text.chat import ChatFormat
from counterpoint.data.text.formats import named_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.registered.samples import Samples, SampleSize

Open = Callable[[int], Iterable[Any]]
"""From the number of an element to an iterable of that and all further elements."""


@final
class StreamDataset:
    """A dataset that is read in its order, for `counterpoint.register_source` and an entry with `order: sequential`.

    `start(n)` returns an iterable that begins with element n: a run that resumes does not read what it has seen.
    `sizes` are those of all elements, as `counterpoint.measure_rows` computes them or a table of yours says; each row
    is compared with its own when it is read. `identity` names the version of the data. `row`, `files` and `chat` are as
    for a `MapDataset`. Each rank reads the whole stream, and converts the rows that it needs; it remembers the last
    `window` elements, which should be those of a few steps.
    """

    def __init__(
        self,
        start: Open,
        sizes: Sequence[SampleSize],
        row: Convert,
        *,
        identity: str,
        files: str | Path | None = None,
        chat: str = "plain",
        window: int = 1024,
    ) -> None:
        if not identity or window < 1:
            raise DataError(
                f"StreamDataset: got the identity {identity!r} and a window of {window}, expected a name of the data's "
                "version and at least 1 element; correct them."
            )
        self.start, self.sizes, self.row, self.chat, self.window = start, tuple(sizes), row, chat, window
        self.files = None if files is None else Path(files)
        self._declared = identity

    @property
    def identity(self) -> str:
        """A digest of the declared identity and of all sizes."""
        digest = hashlib.sha256(repr((self._declared, self.sizes)).encode()).hexdigest()
        return f"{len(self.sizes)} rows, sha256 {digest[:16]}"

    def samples(self, chat: ChatFormat | None, _tokenizer_digest: str, _cache: Path) -> "StreamedSamples":
        """The samples; nothing is read before one is asked for."""
        return StreamedSamples(self, RowLayout(self.row, chat, self.files))


def measure_rows(
    elements: Iterable[Any],
    row: Convert,
    *,
    tokenizer: str | Path | None = None,
    files: str | Path | None = None,
    chat: str = "plain",
) -> list[SampleSize]:
    """The sizes of all rows of a stream, for a `StreamDataset`; reads every element once.

    `tokenizer` is the file that conversations are split with, the run's `data.tokenizer`. Raises DataError for a bad
    row.
    """
    layout = None if tokenizer is None else named_format(chat, Tokenizer.load(Path(tokenizer)))
    laid = RowLayout(row, layout, None if files is None else Path(files))
    return [_laid(laid, number, element).size for number, element in enumerate(elements)]


@final
class StreamedSamples(Samples):
    """The samples of a `StreamDataset`."""

    is_sequential = True

    def __init__(self, dataset: StreamDataset, layout: RowLayout) -> None:
        self._dataset, self._layout = dataset, layout
        self._lock = Lock()
        self._elements: Iterator[Any] = iter(())
        self._next = -1
        self._window: OrderedDict[int, Any] = OrderedDict()
        self._laid: OrderedDict[int, LaidRow] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamedSamples, (self._dataset, self._layout)

    @property
    def identity(self) -> str:
        """That of the dataset."""
        return self._dataset.identity

    def __len__(self) -> int:
        return len(self._dataset.sizes)

    def size(self, index: int) -> SampleSize:
        """The declared size of a row."""
        return self._dataset.sizes[index]

    def tokens(self, index: int) -> Sequence[int]:
        """The tokens of a row; raises DataError if they are not as declared."""
        return self._row(index).tokens

    def files(self, index: int, which: int) -> Sequence[bytes]:
        """The files of an item of a row; raises DataError if the row is not as declared."""
        return self._row(index).items[which].files

    def _row(self, index: int) -> LaidRow:
        with self._lock:
            if index in self._laid:
                return self._laid[index]
            row = _laid(self._layout, index, self._element(index))
            found, declared = row.size, self._dataset.sizes[index]
            if found != declared:
                raise DataError(f"row {index}: it is {found}, but was declared as {declared}; correct the sizes.")
            self._laid[index] = row
            if len(self._laid) > self._dataset.window:
                self._laid.popitem(last=False)
            return row

    def _element(self, index: int) -> Any:
        """An element: a remembered one, or the one that is reached by reading on, or by beginning there."""
        if index in self._window:
            return self._window[index]
        try:
            if not self._next <= index or self._next < 0 or index - self._next > self._dataset.window:
                self._elements, self._next = iter(self._dataset.start(index)), index
                self._window.clear()
            while self._next <= index:
                element = next(self._elements)
                self._window[self._next] = element
                self._next += 1
                if len(self._window) > self._dataset.window:
                    self._window.popitem(last=False)
        except StopIteration:
            self._next = -1
            raise DataError(
                f"the stream ends before row {index}, but {len(self)} rows were declared; correct the sizes."
            ) from None
        except Exception as error:  # The stream is the user's.
            self._next = -1
            raise DataError(f"row {index}: the stream raised {type(error).__name__}: {error}; correct it.") from error
        return element


def _laid(layout: RowLayout, index: int, element: object) -> LaidRow:
    try:
        return layout.lay(element)
    except DataError as error:
        raise DataError(f"row {index}: {error}") from error
