"""The targets that losses compare the rows of one rank with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from counterpoint.kinds.arrays import Floats
from counterpoint.losses import LOSSES
from counterpoint.models.batch import Compared
from counterpoint.plan.batch import BatchPlan, ModuleRows, Share, Span
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.sources.source import Source, target_of


class Here(NamedTuple):
    """The rows of item number `item` of a share that a rank holds: they begin at row `first` of the rank, and are the
    rows `of_item` of the item."""

    item: int
    span: Span
    first: int
    of_item: slice


def rows_here(share: Share, first: int, count: int) -> Iterator[Here]:
    """The output rows of each item of a share that are among the lane's `count` rows from `first` on."""
    for number, span in enumerate(share.spans):
        start, stop = max(span.row_out, first), min(span.row_out + span.rows_out, first + count)
        if start < stop:
            yield Here(number, span, start - first, slice(start - span.row_out, stop - span.row_out))


class Comparisons:
    """The targets of one step."""

    def __init__(self, batch: BatchPlan, sources: Sequence[Source]) -> None:
        self._batch, self._sources = batch, sources
        self._of_all: dict[tuple[FurtherLoss, str], _OfAll] = {}

    def of(self, loss: FurtherLoss, module: ModuleRows, share: Share, here: Sequence[Here], width: int) -> Compared:
        """The targets of a loss for the rows `here` of a share, `width` columns wide.

        They are read for these rows alone, or once a step for all items where the loss sees all. Raises DataError for
        targets whose shape does not fit the rows.
        """
        spans = share.spans
        counts = [one.of_item.stop - one.of_item.start for one in here]
        if loss.sees_all:
            places, targets = self._all(loss, module, width)
            own = _ints(places[span.document, span.item] for span in spans)
        elif loss.is_pooled:
            targets = _joined([self._target(loss, span.document, span.item, width) for span in spans], width)
            own = torch.arange(len(spans))
        else:
            found = [self._target(loss, one.span.document, one.span.item, width)[one.of_item] for one in here]
            targets, own = _joined(found, width), torch.arange(sum(counts))
        rows = [torch.arange(one.first, one.first + count) for one, count in zip(here, counts, strict=True)]
        return Compared(
            rows=torch.cat([torch.arange(0), *rows]),
            item=_ints(one.item for one in here).repeat_interleave(_ints(counts)),
            extents=_ints(span.rows_out for span in spans),
            targets=targets,
            own=own,
            denominator=float(LOSSES[loss.kind].denominator(self._batch, module, loss)),
        )

    def _all(self, loss: FurtherLoss, module: ModuleRows, width: int) -> "_OfAll":
        """The targets of all items that pass through a module."""
        key = loss, module.layout.module
        if key not in self._of_all:
            documents = enumerate(self._batch.documents)
            items = [(d, i) for d, document in documents for i, it in enumerate(document.items) if module.computes(it)]
            places = {item: place for place, item in enumerate(items)}
            self._of_all[key] = places, _joined([self._target(loss, *item, width) for item in items], width)
        return self._of_all[key]

    def _target(self, loss: FurtherLoss, number: int, item: int, width: int) -> Floats:
        assert loss.targets is not None, "a loss of items' rows has targets"
        document = self._batch.documents[number]
        source = self._sources[document.source]
        return target_of(source, document.index, item, loss.targets, width, of_item=loss.is_pooled)


_OfAll = tuple[dict[tuple[int, int], int], torch.Tensor]
"""Which of the targets is that of an item, by document and item, and all of them."""


def _ints(values: Iterable[int]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _joined(targets: Sequence[Floats], width: int) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.zeros((0, width), np.float32), *targets]))
