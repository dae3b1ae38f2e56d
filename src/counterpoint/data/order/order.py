"""The order of data: the documents of step n from (seed, n) alone, alike on every rank and layout.

Step n draws documents [n * W, (n + 1) * W) of the blend. If it is packed by itself, it has exactly these documents, and
the number of its packs varies. With `window_steps` k, the documents of k steps are packed together and dealt to these
steps, so that each has as many packs at about the same cost. Either way step n needs nothing of earlier windows.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from counterpoint.data.order.blend import Blend
from counterpoint.data.order.blocks import BlockOrder
from counterpoint.data.order.packing import pack_documents
from counterpoint.data.order.permute import permute
from counterpoint.data.order.windows import pack_window
from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints
from counterpoint.plan.samples import Document, Pack
from counterpoint.sources.blocks import Blocks
from counterpoint.sources.source import Source

_SUBSET = (-1,)
"""The key of the permutation that chooses a subset, which no seed changes."""

Draw = tuple[int, int]
"""A document as (source, index)."""

_Window = tuple[tuple[Pack, ...], ...]
"""The packs of each step of a window."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A document that is skipped from step `from_step` on; earlier steps still hold it when they are repeated."""

    source: int
    index: int
    from_step: int


@dataclass(frozen=True)
class Order:
    """The training order: sources of `sizes` documents, blended by `weights`, `window` draws a step.

    With `epochs` the order ends after so many epochs of all sources, whose weights are in proportion to what is taken
    of them, so that every epoch has each document once. `sequence_tokens` is the budget of a pack; None leaves every
    document alone in its pack, as are those of the sources `alone`. Documents of `window_steps` steps are packed
    together. `counts` are the documents that are taken of each source, always the same ones (empty: all). The sources
    `sequential` are read in their own order, epoch by epoch, and of them the first documents are taken. Documents of a
    source that has `blocks` are drawn in blocks; `blocks` may be empty. Raises DataError if a source is empty, or
    sizes, counts and weights do not match.
    """

    seed: int
    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    window: int
    sequence_tokens: int | None = None
    exclusions: Collection[Exclusion] = ()
    blocks: tuple[Blocks | None, ...] = ()
    window_steps: int = 1
    epochs: int | None = None
    counts: tuple[int, ...] = ()
    alone: frozenset[int] = frozenset()
    sequential: frozenset[int] = frozenset()
    _packed: dict[int, _Window] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = self.counts or self.sizes
        if (
            not self.sizes or not len(self.sizes) == len(self.weights) == len(counts)
            or min(*self.sizes, *counts, *self.weights, self.window, self.window_steps) < 1
        ):  # fmt: skip
            raise DataError(
                f"data order: sizes {self.sizes}, weights {self.weights}, {self.window} samples a step; "
                "expected at least one source, a weight for each, and all of them positive."
            )

    @property
    def steps(self) -> int | None:
        """The number of steps of all epochs, of which the last one may be smaller; None if the order has no end."""
        return None if self.epochs is None else -(-self._draws // self.window)

    def draws(self, step: int) -> tuple[Draw, ...]:
        """The documents of a step as drawn; an excluded one is left out and nothing takes its place."""
        return self._drawn(step, step + 1)

    def packs(self, step: int, sources: Sequence[Source]) -> tuple[Pack, ...]:
        """The packs of a step, from the metadata of its documents."""
        if self.steps is not None and step >= self.steps:
            return ()
        if self.window_steps == 1:
            return _packs(self.draws(step), sources, self.sequence_tokens, self._is_alone)
        window, place = divmod(step, self.window_steps)
        first = window * self.window_steps
        if window not in self._packed:
            stop = first + self.window_steps if self.steps is None else min(first + self.window_steps, self.steps)
            documents = [sources[source].document(index) for source, index in self._drawn(first, stop)]
            # Only the window at hand is kept; reading goes forwards.
            self._packed.clear()
            self._packed[window] = pack_window(documents, stop - first, self.sequence_tokens, self._is_alone)
        # What is excluded from a step inside the window on leaves its place empty, since earlier steps were read.
        packs = (tuple(d for d in pack if self._has(d.source, d.index, step)) for pack in self._packed[window][place])
        return tuple(pack for pack in packs if pack)

    def _drawn(self, first: int, stop: int) -> tuple[Draw, ...]:
        """The documents of steps `first` to `stop - 1` that are not excluded from the first one on."""
        last = stop * self.window if self.epochs is None else min(stop * self.window, self._draws)
        numbers = np.arange(first * self.window, last, dtype=np.int64)
        source, turn = self._blend.draw(numbers)
        index = np.empty_like(turn)
        epoch, position = np.divmod(turn, self._taken[source])
        for s, e in sorted(set(zip(source.tolist(), epoch.tolist()))):
            chosen = (source == s) & (epoch == e)
            index[chosen] = self._documents(s, position[chosen], (self.seed, s, e))
        return tuple(draw for draw in _pairs(source, index) if self._has(*draw, first))

    def _documents(self, source: int, positions: Ints, key: tuple[int, ...]) -> Ints:
        """The documents at positions of the epoch of a key."""
        if source in self.sequential:
            return positions
        size, taken = self.sizes[source], int(self._taken[source])
        if taken < size:
            positions, key = permute(positions, taken, key), _SUBSET
        order = self._in_blocks.get(source)
        return permute(positions, size, key) if order is None else order.documents(positions, key)

    def _has(self, source: int, index: int, step: int) -> bool:
        """Whether a document is not excluded in a step."""
        return self._first_excluded.get((source, index), step + 1) > step

    def _is_alone(self, document: Document) -> bool:
        return document.source in self.alone

    @property
    def _draws(self) -> int:
        """The number of draws of all epochs."""
        taken: list[int] = self._taken.tolist()
        return sum(taken) * (self.epochs or 0)

    @cached_property
    def _taken(self) -> Ints:
        """Number of documents of each source in an epoch."""
        return np.minimum(np.array(self.sizes, dtype=np.int64), self.counts or self.sizes)

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


def _packs(
    draws: tuple[Draw, ...],
    sources: Sequence[Source],
    budget_tokens: int | None,
    is_alone: Callable[[Document], bool] = lambda _document: False,
) -> tuple[Pack, ...]:
    documents: list[Document] = [sources[source].document(index) for source, index in draws]
    if budget_tokens is None:
        return tuple((document,) for document in documents)
    return pack_documents(documents, budget_tokens, is_alone)


def _pairs(source: Ints, index: Ints) -> list[Draw]:
    return list(zip(source.tolist(), index.tolist(), strict=True))
