"""What one rank reads of a step: the payload behind its own rows, and the row maps of its links; nothing else.

The batch plan says which rows these are before anything is read, so an encoder rank decodes its images or clips and no
text and a language rank reads its tokens and no pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from counterpoint.data.clip_rows import clip_batch
from counterpoint.data.feature_rows import feature_batch
from counterpoint.data.image_rows import Laid, extents, image_segments, image_windows, lay_images
from counterpoint.data.images import ItemSettings
from counterpoint.data.own_rows import Own, P
from counterpoint.data.payload import ClipPayload, FeaturePayload, Ints, PatchPayload, Payload
from counterpoint.data.positions import lay_positions
from counterpoint.data.source import Source, load_item_or_neutral
from counterpoint.execute.rowmap import RowMap
from counterpoint.losses import LOSSES
from counterpoint.models.batch import Batch, FeatureBatch, MtpInputs, PatchBatch, TextBatch
from counterpoint.models.segments import Segments
from counterpoint.plan.batch import BatchPlan, Share, Span
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.sizes import NO_LABEL, NO_TOKEN, AudioSizes, FeaturesSizes, ImageSizes


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


@dataclass(frozen=True)
class Reader:
    """Reads one rank's share of batch plans from the sources that their documents name.

    Without `with_mtp` only the next token is to be predicted, as in evaluation. With `is_pinned` a GPU copies what was
    read by itself, while the host goes on.
    """

    plan: Plan
    rank: int
    sources: Sequence[Source]
    dtype: torch.dtype
    with_mtp: bool = True
    is_pinned: bool = False

    def read(self, batch: BatchPlan) -> StepInputs:
        """Build the inputs of a step; a bad payload is replaced and reported, never raised."""
        bad: list[BadPayload] = []
        batches: dict[tuple[str, int], Batch] = {}
        for module in self.plan.placement.modules_of(self.rank):
            for microbatch, lanes in enumerate(batch.shares[module]):
                if not batch.is_empty(module, microbatch):
                    share = lanes[self.plan.layouts[module].coordinate(self.rank).dp]
                    batches[module, microbatch] = self._batch(batch, module, share, bad)
        maps = self._maps(batch)
        if self.is_pinned:
            batches = {key: own.pinned() for key, own in batches.items()}
            maps = {key: rows.pinned() for key, rows in maps.items()}
        return StepInputs(batch, batches, maps, tuple(bad))

    def _maps(self, batch: BatchPlan) -> dict[tuple[Link, int], RowMap]:
        maps = {}
        stages = self.plan.stages
        for link in stages.links:
            if self.rank not in stages.ranks[link.source] and self.rank not in stages.ranks[link.target]:
                continue
            for exchange in range(stages.exchanges(link, self.plan.microbatches)):
                route = self.plan.route(batch, link, exchange)
                if route.copies:
                    maps[link, exchange] = RowMap.build(route, self.rank)
        return maps

    def _batch(self, batch: BatchPlan, module: str, share: Share, bad: list[BadPayload]) -> Batch:
        """What this rank's stages of a module read of a share of its lane."""
        layout = self.plan.layouts[module]
        stages = {node.stage for node in self.plan.nodes_of(self.rank) if node.module == module}
        if module == self.plan.sink:
            return self._text(batch, share, layout, with_payload=bool(stages & {0, layout.stages - 1}))
        first, rows = self._own_rows(layout, share) if 0 in stages else (0, 0)
        if self.plan.rows[module].roots:
            return FeatureBatch(rows=rows, segments=self._segments(share, layout))
        sizes = self.plan.sizes[module]
        if isinstance(sizes, AudioSizes):
            clips = self._own(batch, share, ClipPayload, first, rows, bad)
            return clip_batch(clips, sizes, rows, self._segments(share, layout), self.dtype)
        if isinstance(sizes, FeaturesSizes):
            given = self._own(batch, share, FeaturePayload, first, rows, bad)
            return feature_batch(given, sizes, rows, self._segments(share, layout), self.dtype)
        return self._patches(batch, share, module, first, rows, bad)

    def _own_rows(self, layout: Layout, share: Share) -> tuple[int, int]:
        """The lane's input rows (first, count) that this rank's shard holds."""
        rows = share.rows_in // layout.lane_size
        coordinate = layout.coordinate(self.rank)
        return (coordinate.cp * layout.tp + coordinate.tp) * rows, rows

    def _text(self, batch: BatchPlan, share: Share, layout: Layout, with_payload: bool) -> TextBatch:
        """The rows of this rank's context-parallel share; `segments` describe all rows of the lane."""
        # Line k of each: the tokens k rows ahead in the same document, and the labels there.
        depths = self.plan.facts[self.plan.sink].extra_depths if self.with_mtp else 0
        ids = np.full((1 + depths, share.rows_in), NO_TOKEN, dtype=np.int64)
        labels = np.full((1 + depths, share.rows_in), NO_LABEL, dtype=np.int64)
        axes = self.plan.facts[self.plan.sink].position_axes
        positions = np.zeros((share.rows_in, axes), dtype=np.int64)
        loss = LOSSES[self.plan.loss]
        for span in share.spans:
            document = batch.documents[span.document]
            rows = slice(span.row_in, span.row_in + span.rows_in)
            positions[rows] = lay_positions(document, axes)
            if with_payload:
                text = self.sources[document.source].text(document.index)
                for ahead in range(min(1 + depths, span.rows_in)):
                    inside = slice(span.row_in, span.row_in + span.rows_in - ahead)
                    ids[ahead, inside], labels[ahead, inside] = text.ids[ahead:], loss.labels(text)[ahead:]
        segments = Segments.build(tuple(span.rows_in for span in share.spans), share.rows_in)
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
        )

    def _whole_items(self, share: Share, layout: Layout) -> Segments | None:
        """The items of this rank's context-parallel piece, if all items of the lane lie whole in one."""
        if not _are_whole(((span.row_in, span.row_in + span.rows_in) for span in share.spans), layout, share):
            return None
        piece = self._piece(layout, share)
        spans = [span for span in share.spans if piece.start <= span.row_in < piece.stop]
        starts = tuple(span.row_in - piece.start for span in spans)
        return Segments.build(tuple(span.rows_in for span in spans), piece.stop - piece.start, starts=starts)

    def _segments(self, share: Share, layout: Layout) -> Segments:
        """The items of a lane, each seen by itself."""
        return Segments.build(
            tuple(span.rows_in for span in share.spans),
            share.rows_in,
            starts=tuple(span.row_in for span in share.spans),
            own=self._whole_items(share, layout),
        )

    def _patches(
        self, batch: BatchPlan, share: Share, module: str, first: int, rows: int, bad: list[BadPayload]
    ) -> PatchBatch:
        sizes = self.plan.sizes[module]
        assert isinstance(sizes, ImageSizes), "items enter a vision module"
        layout = self.plan.layouts[module]
        images = [Laid(self._grid(batch, span), span.row_in) for span in share.spans]
        places = lay_images(images, share.rows_in, sizes)
        shard, piece = slice(first, first + rows), self._piece(layout, share)
        patches = np.zeros((rows, sizes.patch_dim), dtype=np.float32)
        for own in self._own(batch, share, PatchPayload, first, rows, bad):
            patches[own.here] = own.payload.patches[own.there]
        whole = self._whole_images(images, layout, share, sizes)
        return PatchBatch(
            patches=torch.from_numpy(patches).to(self.dtype),
            coordinates=torch.from_numpy(places.coordinates[shard]),
            grids=torch.from_numpy(places.grids[shard]),
            prefix=torch.from_numpy(places.prefix[shard]),
            places=torch.from_numpy(places.coordinates[piece]),
            segments=image_segments(
                images, share.rows_in, sizes,
                None if whole is None else image_segments(whole, share.rows_in // layout.cp, sizes),
            ),
            windows=image_windows(images, sizes, None if whole is None else image_windows(whole, sizes)),
            images=extents(images),
        )  # fmt: skip

    def _own(
        self, batch: BatchPlan, share: Share, kind: type[P], first: int, rows: int, bad: list[BadPayload]
    ) -> Iterator[Own[P]]:
        """The items of a share that have a row among the `rows` from `first`, read one by one."""
        for span in share.spans:
            start, stop = max(span.row_in, first), min(span.row_in + span.rows_in, first + rows)
            if start < stop:
                here, there = slice(start - first, stop - first), slice(start - span.row_in, stop - span.row_in)
                payload = self._payload(batch, span, bad)
                assert isinstance(payload, kind), "what is read is of the kind that its module takes"
                yield Own(payload, here, there)

    def _piece(self, layout: Layout, share: Share) -> slice:
        """The lane's input rows of this rank's context-parallel share."""
        rows = share.rows_in // layout.cp
        first = layout.coordinate(self.rank).cp * rows
        return slice(first, first + rows)

    def _whole_images(
        self, images: Sequence[Laid], layout: Layout, share: Share, sizes: ImageSizes
    ) -> list[Laid] | None:
        """The images of this rank's context-parallel piece, counted from it, if all of the lane lie whole in one."""
        if not _are_whole(((i.row - sizes.prefix, i.row + i.patches) for i in images), layout, share):
            return None
        piece = self._piece(layout, share)
        return [Laid(i.grid, i.row - piece.start) for i in images if piece.start <= i.row < piece.stop]

    def _grid(self, batch: BatchPlan, span: Span) -> tuple[int, int]:
        document = batch.documents[span.document]
        source = self.sources[document.source]
        taker = source.settings[document.items[span.item].module]
        assert isinstance(taker, ItemSettings), "images enter a vision transformer"
        height, width = source.extent(document.index, span.item)
        return taker.grid(height, width)

    def _payload(self, batch: BatchPlan, span: Span, bad: list[BadPayload]) -> Payload:
        document = batch.documents[span.document]
        source = self.sources[document.source]
        payload, reason = load_item_or_neutral(source, document.index, span.item, document.items[span.item])
        if reason is not None:
            bad.append(BadPayload(document.source, document.index, str(reason)))
        return payload


def _scored(labels: Ints) -> torch.Tensor | None:
    """The rows with a label, None if all have one."""
    (rows,) = np.nonzero(labels != NO_LABEL)
    return None if len(rows) == len(labels) else torch.from_numpy(rows)


def _are_whole(ends: Iterable[tuple[int, int]], layout: Layout, share: Share) -> bool:
    """Whether a lane has several context-parallel ranks and each item, rows from start to stop, lies whole on one."""
    rows = share.rows_in // layout.cp
    return layout.cp > 1 and all(start // rows == (stop - 1) // rows for start, stop in ends)
