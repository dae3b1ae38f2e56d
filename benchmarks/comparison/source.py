"""Documents as the baseline's samples are: images in front, text behind, as many images as were drawn for the step."""

from collections.abc import Sequence

import numpy as np

from counterpoint.kinds.modality import Extent, Intakes
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.plan.samples import Document, Pack
from counterpoint.sources.census import Census
from counterpoint.sources.payload import TextPayload, lay_items, lay_text

from .settings import Cut
from .stick import MAX_IMAGES, W


class DrawnSource:
    """Document `step * samples + s` is sample s of a step, with `counts[step][s]` images of `side` pixels.

    The pixels are those of a few images made once: what is fed are rows, and nothing is decoded.
    """

    excluded = 0

    def __init__(self, intakes: Intakes, counts: Sequence[Sequence[int]], side: int) -> None:
        self.intakes = intakes
        self._counts, self._extent, self._intake = counts, (side, side), intakes["vision"]
        rows = rows_of(self._intake)
        self._pool = [rows.noise(np.random.default_rng(i), self._extent) for i in range(MAX_IMAGES)]

    @property
    def index(self) -> None:
        """See Source: nothing was prepared."""

    @property
    def census(self) -> Census:
        """See Source."""
        documents = [self.document(number) for number in range(len(self))]
        return Census(len(self), len(self), cut=0, loss_tokens=sum(one.loss_tokens for one in documents))

    def where(self, index: int) -> str:
        """See Source."""
        return f"document {index} of those drawn"

    def __len__(self) -> int:
        return sum(len(step) for step in self._counts)

    def document(self, index: int) -> Document:
        """See Source."""
        items = lay_items([0] * self._images(index), [self._intake.place(self._extent)] * self._images(index))
        text = W.seq - sum(item.rows for item in items)
        # A first token is predicted from no row.
        return Document(0, index, W.seq, text if items else text - 1, items)

    def text(self, index: int) -> TextPayload:
        """See Source."""
        items = self.document(index).items
        tokens = np.random.default_rng(index).integers(W.text_vocab, size=W.seq - sum(item.rows for item in items))
        return lay_text(tokens, np.full(len(tokens), True), [0] * len(items), [item.rows for item in items])

    def extent(self, _index: int, _which: int) -> Extent:
        """See Source."""
        return self._extent

    def item(self, _index: int, which: int) -> PatchPayload:
        """See Source."""
        payload = self._pool[which]
        assert isinstance(payload, PatchPayload), "images enter a vision module"
        return payload

    def packs(self, step: int, cut: Cut) -> tuple[Pack, ...]:
        """The samples of a step, ordered so that a lane gets those of one rank of the baseline, one after the other."""
        each = cut.samples // cut.lanes
        micro = each // cut.microbatches
        firsts = [lane * each + m * micro for m in range(cut.microbatches) for lane in range(cut.lanes)]
        places = [first + k for first in firsts for k in range(micro)]
        return tuple((self.document(step % len(self._counts) * cut.samples + place),) for place in places)

    def _images(self, index: int) -> int:
        step, place = divmod(index, len(self._counts[0]))
        return self._counts[step][place]
