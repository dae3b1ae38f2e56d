"""The order of data: the documents of step n from (seed, n) alone, alike on every rank and layout.

Step n has a window of its own: draws [n * W, (n + 1) * W) of the blend, which are packed by themselves. So the number
of documents in a step is exact and the number of packs varies; with an exact number of packs, step n would need the
packs of all steps before it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from counterpoint.data.order.blend import Blend
from counterpoint.data.order.blocks import BlockOrder
from counterpoint.data.order.packing import pack_documents
from counterpoint.data.order.permute import permute
from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints
from counterpoint.plan.samples import Document, Pack
from counterpoint.sources.blocks import Blocks
from counterpoint.sources.source import Source

Draw = tuple[int, int]
"""A document as (source, index)."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A document that is skipped from step `from_step` on; earlier steps still hold it when they are repeated."""

    source: int
    index: int
    from_step: int


@dataclass(frozen=True)
class Order:
    """The training order: sources of `sizes` documents, blended by `weights`, `window` draws a step.

    `sequence_tokens` is the budget of a pack; None leaves every document alone in its pack. Documents of a source that
    has `blocks` are drawn in blocks; `blocks` may be empty. Raises DataError if a source is empty, or sizes and weights
    do not match.
    """

    seed: int
    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    window: int
    sequence_tokens: int | None = None
    exclusions: Collection[Exclusion] = ()
    blocks: tuple[Blocks | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.weights) or min(*self.sizes, *self.weights, self.window) < 1:
            raise DataError(
                f"data order: sizes {self.sizes}, weights {self.weights}, {self.window} samples a step; "
                "expected at least one source, a weight for each, and all of them positive."
            )

    def draws(self, step: int) -> tuple[Draw, ...]:
        """The documents of a step as drawn; an excluded one is left out and nothing takes its place."""
        numbers = np.arange(step * self.window, (step + 1) * self.window, dtype=np.int64)
        source, turn = self._blend.draw(numbers)
        index = np.empty_like(turn)
        epoch, position = np.divmod(turn, np.array(self.sizes, dtype=np.int64)[source])
        for s, e in sorted(set(zip(source.tolist(), epoch.tolist()))):
            chosen = (source == s) & (epoch == e)
            index[chosen] = self._documents(s, position[chosen], (self.seed, s, e))
        return tuple(draw for draw in _pairs(source, index) if self._first_excluded.get(draw, step + 1) > step)

    def packs(self, step: int, sources: Sequence[Source]) -> tuple[Pack, ...]:
        """The packs of a step, from the metadata of its documents."""
        return _packs(self.draws(step), sources, self.sequence_tokens)

    def _documents(self, source: int, positions: Ints, key: tuple[int, ...]) -> Ints:
        """The documents at positions of the epoch of a key."""
        order = self._in_blocks.get(source)
        return permute(positions, self.sizes[source], key) if order is None else order.documents(positions, key)

    @cached_property
    def _in_blocks(self) -> dict[int, BlockOrder]:
        return {source: BlockOrder(blocks) for source, blocks in enumerate(self.blocks) if blocks is not None}

    @cached_property
    def _blend(self) -> Blend:
        return Blend(self.weights)

    @cached_property
    def _first_excluded(self) -> dict[Draw, int]:
        first: dict[Draw, int] = {}
        for exclusion in self.exclusions:
            draw = (exclusion.source, exclusion.index)
            first[draw] = min(exclusion.from_step, first.get(draw, exclusion.from_step))
        return first


@dataclass(frozen=True, slots=True)
class SequentialOrder:
    """The evaluation order: every document of every source once; the last window is what remains."""

    sizes: tuple[int, ...]
    window: int
    sequence_tokens: int | None = None

    @property
    def steps(self) -> int:
        """How many windows cover all documents."""
        return -(-sum(self.sizes) // self.window)

    def draws(self, step: int) -> tuple[Draw, ...]:
        """The documents of a window."""
        numbers = np.arange(step * self.window, min((step + 1) * self.window, sum(self.sizes)), dtype=np.int64)
        sizes = np.array(self.sizes, dtype=np.int64)
        ends = np.cumsum(sizes)
        source = np.searchsorted(ends, numbers, side="right")
        return tuple(_pairs(source, numbers - (ends - sizes)[source]))

    def packs(self, step: int, sources: Sequence[Source]) -> tuple[Pack, ...]:
        """The packs of a window, from the metadata of its documents."""
        return _packs(self.draws(step), sources, self.sequence_tokens)


def _packs(draws: tuple[Draw, ...], sources: Sequence[Source], budget_tokens: int | None) -> tuple[Pack, ...]:
    documents: list[Document] = [sources[source].document(index) for source, index in draws]
    if budget_tokens is None:
        return tuple((document,) for document in documents)
    return pack_documents(documents, budget_tokens)


def _pairs(source: Ints, index: Ints) -> list[Draw]:
    return list(zip(source.tolist(), index.tolist(), strict=True))
