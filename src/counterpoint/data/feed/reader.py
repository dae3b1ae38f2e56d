"""What one rank reads of a step: the payload of its own rows, and the row maps of its links; nothing else.

The batch plan says which rows these are before anything is read, so an encoder rank decodes its images or clips and no
text and a language rank reads its tokens and no pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from counterpoint.data.feed.compared import Comparisons, rows_here
from counterpoint.data.feed.positions import lay_positions
from counterpoint.errors import DataError
from counterpoint.execute.rowmap import RowMap
from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import Intake, Payload
from counterpoint.losses import MAIN_LOSSES
from counterpoint.modalities.lane import Laid, Lane, Own
from counterpoint.modalities.rows import batch_of
from counterpoint.models.batch import Batch, Compared, FeatureBatch, MtpInputs, TextBatch
from counterpoint.models.movable import all_pinned
from counterpoint.models.segments import Segments
from counterpoint.plan.batch import BatchPlan, Share, Span
from counterpoint.plan.erase import carries
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Item
from counterpoint.sources.source import Source, load_item_or_neutral


@dataclass(frozen=True, slots=True)
class BadPayload:
    """A payload that could not be read and was replaced by neutral content of its planned size."""

    source: int
    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One rank's inputs of one step, on the CPU.

    `batches` are by (module, its microbatch), `maps` by (link, exchange); `bad` payloads were replaced.
    """

    batch: BatchPlan
    batches: dict[tuple[str, int], Batch]
    maps: dict[tuple[Link, int], RowMap]
    bad: tuple[BadPayload, ...] = ()

    def pinned(self) -> "StepInputs":
        """The same inputs in pinned memory."""
        maps = {key: rows.pinned() for key, rows in self.maps.items()}
        return replace(self, batches=all_pinned(self.batches), maps=maps)


class Wanted(NamedTuple):
    """Item `which` of a document, of which a rank has rows."""

    source: int
    document: int
    which: int
    item: Item


Loaded = tuple[Payload, DataError | None]
"""The rows of an item, or neutral ones and why it could not be read."""


@dataclass(frozen=True)
class Reader:
    """Reads one rank's share of batch plans from the sources that their documents name.

    Without `with_mtp` only the next token is predicted, as in evaluation. With `is_pinned` inputs are in pinned memory,
    so copies to the GPU do not block the host. With `packs` documents of any lengths share a sequence.
    """

    plan: Plan
    rank: int
    sources: Sequence[Source]
    dtype: torch.dtype
    with_mtp: bool = True
    is_pinned: bool = False
    packs: bool = False

    def read(self, batch: BatchPlan, load: Callable[[Wanted], Loaded] | None = None) -> StepInputs:
        """Build the inputs of a step; a bad payload is replaced and reported, never raised.

        `load` is called for the items of `wanted`, in that order; without it they are read here, one by one.
        """
        step = _Step(batch, Comparisons(batch, self.sources), load or self.load, [])
        batches: dict[tuple[str, int], Batch] = {}
        for module, microbatch, share in self._shares(batch):
            is_even = module == self.plan.sink and batch.has_even_lanes(microbatch)
            batches[module, microbatch] = self._batch(step, module, share, is_even)
        inputs = StepInputs(batch, batches, self._maps(batch), tuple(step.bad))
        return inputs.pinned() if self.is_pinned else inputs

    def wanted(self, batch: BatchPlan) -> Iterator[Wanted]:
        """The items of a step of which this rank has rows."""
        for module, _microbatch, share in self._shares(batch):
            if self._reads_items(module):
                for span, _here, _there in self._own_spans(module, share):
                    yield _wanted(batch, span)

    def load(self, wanted: Wanted) -> Loaded:
        """Read an item, or replace it."""
        return load_item_or_neutral(self.sources[wanted.source], wanted.document, wanted.which, wanted.item)

    def _shares(self, batch: BatchPlan) -> Iterator[tuple[str, int, Share]]:
        """This rank's share of every module and microbatch in which any lane has rows."""
        for module in self.plan.placement.modules_of(self.rank):
            dp = self.plan.layouts[module].coordinate(self.rank).dp
            for microbatch, lanes in enumerate(batch.shares[module]):
                if not batch.is_empty(module, microbatch):
                    yield module, microbatch, lanes[dp]

    def _reads_items(self, module: str) -> bool:
        """Whether items enter a module on this rank, not the rows of other modules or stages."""
        is_first = any(node.module == module and node.stage == 0 for node in self.plan.nodes_of(self.rank))
        return is_first and module != self.plan.sink and not self.plan.rows[module].roots

    def _maps(self, batch: BatchPlan) -> dict[tuple[Link, int], RowMap]:
        maps = {}
        stages = self.plan.stages
        for link in stages.links:
            if self.rank not in stages.ranks[link.source] and self.rank not in stages.ranks[link.target]:
                continue
            for exchange in range(stages.exchanges(link, self.plan.microbatches)):
                if carries(stages, batch, link, exchange):
                    maps[link, exchange] = RowMap.build(self.plan.route(batch, link, exchange, self.rank), self.rank)
        return maps

    def _batch(self, step: "_Step", module: str, share: Share, is_even: bool) -> Batch:
        """The batch that this rank's stages of a module read for a share of its lane; with `is_even` all lanes have as
        many rows."""
        layout, batch = self.plan.layouts[module], step.batch
        stages = {node.stage for node in self.plan.nodes_of(self.rank) if node.module == module}
        if module == self.plan.sink:
            with_payload = bool(stages & {0, layout.stages - 1})
            return replace(self._text(batch, share, layout, with_payload), is_even=is_even)
        first, rows = self._own_rows(layout, share) if 0 in stages else (0, 0)
        is_fed_by_others = bool(self.plan.rows[module].roots)
        lane = Lane(
            rows=share.rows_in,
            items=[Laid(span.row_in, span.rows_in, batch.item(span).columns, span.row_out) for span in share.spans],
            own=self._own(step, module, share) if self._reads_items(module) else (),
            shard=slice(first, first + rows),
            piece=self._piece(layout, share),
            pieces=layout.cp,
            rows_out=share.rows_out,
        )
        compared = self._compared(module, share, step.comparisons) if layout.stages - 1 in stages else ()
        if is_fed_by_others:
            return FeatureBatch(rows=rows, segments=lane.segments(), compared=compared)
        return replace(batch_of(self._intakes[module], lane, self.dtype), compared=compared)

    def _compared(self, module: str, share: Share, comparisons: Comparisons) -> tuple[Compared, ...]:
        """The targets of each loss of a module's output rows."""
        losses = self.plan.losses.get(module, ())
        here = tuple(rows_here(share, *self._shard(self.plan.layouts[module], share.rows_out))) if losses else ()
        rows, width = self.plan.rows[module], self.plan.facts[module].hidden_out
        return tuple(comparisons.of(loss, rows, share, here, width) for loss in losses)

    def _own_rows(self, layout: Layout, share: Share) -> tuple[int, int]:
        """The lane's input rows (first, count) that this rank's shard holds."""
        return self._shard(layout, share.rows_in)

    def _shard(self, layout: Layout, lane_rows: int) -> tuple[int, int]:
        """This rank's (first, count) of the rows of a lane."""
        rows = lane_rows // layout.lane_size
        coordinate = layout.coordinate(self.rank)
        return (coordinate.cp * layout.tp + coordinate.tp) * rows, rows

    def _text(self, batch: BatchPlan, share: Share, layout: Layout, with_payload: bool) -> TextBatch:
        """The rows of this rank's context-parallel share; `segments` describe all rows of the lane."""
        # Row k of each array: the tokens k rows ahead in the same document, and the labels there.
        depths = self.plan.facts[self.plan.sink].extra_depths if self.with_mtp else 0
        ids = np.full((1 + depths, share.rows_in), NO_TOKEN, dtype=np.int64)
        labels = np.full((1 + depths, share.rows_in), NO_LABEL, dtype=np.int64)
        axes = self.plan.facts[self.plan.sink].position_axes
        positions, extents = (np.zeros((share.rows_in, width), dtype=np.int64) for width in (axes, 1))
        loss = MAIN_LOSSES[self.plan.loss]
        for span in share.spans:
            document = batch.documents[span.document]
            rows = slice(span.row_in, span.row_in + span.rows_in)
            positions[rows] = lay_positions(document, axes)
            extents[rows] = positions[rows].max(initial=-1) + 1
            if with_payload:
                text = self.sources[document.source].text(document.index)
                for ahead in range(min(1 + depths, span.rows_in)):
                    inside = slice(span.row_in, span.row_in + span.rows_in - ahead)
                    ids[ahead, inside], labels[ahead, inside] = text.ids[ahead:], loss.labels(text)[ahead:]
        lengths = tuple(span.rows_in for span in share.spans)
        segments = Segments.build(lengths, share.rows_in, differ=self.packs)
        own = self._piece(layout, share)
        return TextBatch(
            ids=torch.from_numpy(ids[0, own]),
            positions=torch.from_numpy(positions[own] if axes > 1 else positions[own, 0]),
            segments=segments,
            labels=torch.from_numpy(labels[0, own]),
            inserts=(),
            loss_denominator=float(loss.denominator(batch)),
            document_denominator=float(len(batch.documents)),
            mtp=tuple(
                MtpInputs(
                    torch.from_numpy(ids[1 + depth, own]),
                    torch.from_numpy(labels[1 + depth, own]),
                    float(batch.mtp_loss_tokens(depth)),
                    _scored(labels[1 + depth, own]),
                )
                for depth in range(depths)
            ),
            scored=_scored(labels[0, own]),
            extents=torch.from_numpy(extents[own, 0]),
        )

    @cached_property
    def _intakes(self) -> dict[str, Intake]:
        return {module: intake for source in self.sources for module, intake in source.intakes.items()}

    def _own(self, step: "_Step", module: str, share: Share) -> Iterator[Own[Payload]]:
        """The items of a share that have a row here, read one by one."""
        for span, here, there in self._own_spans(module, share):
            wanted = _wanted(step.batch, span)
            payload, reason = step.load(wanted)
            if reason is not None:
                step.bad.append(BadPayload(wanted.source, wanted.document, str(reason)))
            yield Own(payload, here, there)

    def _own_spans(self, module: str, share: Share) -> Iterator[tuple[Span, slice, slice]]:
        """The spans of a share with a row in this rank's shard, whose rows they are here and in the item."""
        first, rows = self._own_rows(self.plan.layouts[module], share)
        for span in share.spans:
            start, stop = max(span.row_in, first), min(span.row_in + span.rows_in, first + rows)
            if start < stop:
                yield span, slice(start - first, stop - first), slice(start - span.row_in, stop - span.row_in)

    def _piece(self, layout: Layout, share: Share) -> slice:
        """The lane's input rows of this rank's context-parallel share."""
        rows = share.rows_in // layout.cp
        first = layout.coordinate(self.rank).cp * rows
        return slice(first, first + rows)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that is being read: how its items are loaded, and what was bad so far."""

    batch: BatchPlan
    comparisons: Comparisons
    load: Callable[[Wanted], Loaded]
    bad: list[BadPayload]


def _wanted(batch: BatchPlan, span: Span) -> Wanted:
    document = batch.documents[span.document]
    return Wanted(document.source, document.index, span.item, document.items[span.item])


def _scored(labels: Ints) -> torch.Tensor | None:
    """The rows with a label, None if all have one."""
    (rows,) = np.nonzero(labels != NO_LABEL)
    return None if len(rows) == len(labels) else torch.from_numpy(rows)
