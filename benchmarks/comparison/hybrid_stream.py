"""Streams of documents that never repeat: tokens by a Zipf-like distribution, and a recipe's images beside them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from counterpoint.kinds.modality import Extent, Intakes
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Document, Pack
from counterpoint.sources.census import Census
from counterpoint.sources.payload import TextPayload, lay_text
from counterpoint.sources.synthetic.source import SyntheticSource

from .hybrid_settings import HybridCut
from .stick import draw_tokens, token_of_share

_MOST = 1 << 10
"""Most documents of a sequence: a document's index is that of its sequence times this, plus its place."""

_MEDIAN, _SIGMA, _LEAST = 1024, 1.0, 16
"""Lengths of packed documents: lognormal. Unit: tokens."""


class TokenStream:
    """Sequence s of step n is one document of the tokens that the peer reads, or cut into documents if `is_packed`."""

    excluded = 0

    def __init__(self, cut: HybridCut, rows: int, vocab: int, seed: int, *, is_packed: bool) -> None:
        self.intakes: Intakes = {}
        self._cut, self._rows, self._vocab, self._seed, self._is_packed = cut, rows, vocab, seed, is_packed

    @property
    def index(self) -> None:
        """See Source: nothing was prepared."""

    @property
    def census(self) -> Census:
        """See Source: there is no end to count to."""
        return Census(1, 1, cut=0, loss_tokens=self._rows - 1)

    def where(self, index: int) -> str:
        """See Source."""
        return f"document {index} of a stream"

    def __len__(self) -> int:
        return 1 << 62

    def document(self, index: int) -> Document:
        """See Source."""
        start, stop = self._bounds(index)
        return Document(0, index, stop - start, stop - start - 1)

    def text(self, index: int) -> TextPayload:
        """See Source."""
        start, stop = self._bounds(index)
        step, sequence = divmod(index // _MOST, self._cut.total)
        tokens = draw_tokens(self._seed, step, sequence, self._rows, self._vocab)[start:stop]
        return lay_text(tokens, np.full(len(tokens), True), [], [])

    def extent(self, _index: int, _which: int) -> Extent:
        """See Source."""
        raise NotImplementedError("a stream of tokens has no items")

    def item(self, _index: int, _which: int) -> PatchPayload:
        """See Source."""
        raise NotImplementedError("a stream of tokens has no items")

    def packs(self, step: int) -> tuple[Pack, ...]:
        """The sequences of a step, those of a lane one after the other."""
        first = step * self._cut.total
        return tuple(self._pack(number) for number in range(first, first + self._cut.total))

    def _pack(self, number: int) -> Pack:
        return tuple(self.document(number * _MOST + place) for place in range(len(self._ends(number))))

    def _bounds(self, index: int) -> tuple[int, int]:
        number, place = divmod(index, _MOST)
        ends = (0, *self._ends(number))
        return ends[place], ends[place + 1]

    def _ends(self, number: int) -> tuple[int, ...]:
        return _packed_ends(self._seed, number, self._rows) if self._is_packed else (self._rows,)


@cache
def _packed_ends(seed: int, number: int, rows: int) -> tuple[int, ...]:
    generator = np.random.default_rng([seed, number, 1])
    ends, end, scale = [], 0, rows / 8192
    while end < rows:
        drawn = int(generator.lognormal(np.log(max(_MEDIAN * scale, 1.0)), _SIGMA))
        end = min(end + max(drawn, min(_LEAST, rows)), rows)
        ends.append(end)
    if len(ends) > 1 and ends[-1] - ends[-2] < 2:  # A document of one row has no loss.
        del ends[-2]
    return tuple(ends)


class ImageStream:
    """The documents of a recipe, in order, with Zipf-like tokens; pixels are cut from one noise, which is cheap."""

    excluded = 0

    def __init__(self, source: SyntheticSource, cut: HybridCut, rows: int, vocab: int) -> None:
        self._source, self._cut, self._rows, self._vocab = source, cut, rows, vocab
        self.intakes = source.intakes
        self._packs = self._fill()
        self._known: dict[int, tuple[Pack, ...]] = {}
        self._noise: Any = None

    @property
    def index(self) -> None:
        """See Source: nothing was prepared."""

    @property
    def census(self) -> Census:
        """See Source."""
        return self._source.census

    def where(self, index: int) -> str:
        """See Source."""
        return self._source.where(index)

    def __len__(self) -> int:
        return len(self._source)

    def document(self, index: int) -> Document:
        """See Source."""
        return self._source.document(index)

    def text(self, index: int) -> TextPayload:
        """See Source: each word stands for the share of words below it."""
        text = self._source.text(index)
        return TextPayload(self._zipf(text.ids, NO_TOKEN), self._zipf(text.labels, NO_LABEL))

    def extent(self, index: int, which: int) -> Extent:
        """See Source."""
        return self._source.extent(index, which)

    def item(self, index: int, which: int) -> PatchPayload:
        """See Source."""
        item, (height, width) = self.document(index).items[which], self.extent(index, which)
        intake: Any = self.intakes[item.module]
        if self._noise is None or len(self._noise) < item.rows_in:
            self._noise = np.random.default_rng(0).random((item.rows_in, intake.columns), dtype=np.float32) * 2 - 1
        return PatchPayload(self._noise[: item.rows_in], intake.grid(height, width), intake.kind)

    def packs(self, step: int) -> tuple[Pack, ...]:
        """The sequences of a step: documents in order, each into the first sequence that has room."""
        while step not in self._known:
            self._known[len(self._known)] = next(self._packs)
        return self._known[step]

    def _fill(self) -> Iterator[tuple[Pack, ...]]:
        number = 0
        while True:
            packs: list[list[Document]] = [[] for _ in range(self._cut.total)]
            free = [self._rows] * self._cut.total
            while True:
                document = self.document(number)
                place = next((p for p, room in enumerate(free) if room >= document.tokens), None)
                if place is None:
                    break
                packs[place].append(document)
                free[place] -= document.tokens
                number += 1
            yield tuple(tuple(pack) for pack in packs)

    def _zipf(self, words: Any, but: int) -> Any:
        chosen = words != but
        return np.where(chosen, token_of_share((np.where(chosen, words, 0) + 0.5) / self._vocab, 0, self._vocab), but)
