"""Routes: which rows go from which rank to which, for one exchange of a link.

The rows of a lane are cut into equal consecutive shards over the cp x tp ranks of a stage; so every row has one owner
on each side, and a route is the meeting of two such cuts. Gradients go back along it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from counterpoint.plan.batch import DOCUMENT, BatchPlan, Share, Span
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import Layout
from counterpoint.plan.stages import Stages


@dataclass(frozen=True, slots=True, order=True)
class Copy:
    """`rows` consecutive rows, from a row of the source rank's shard to a row of the target rank's."""

    source_rank: int
    target_rank: int
    source_row: int
    target_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Route:
    """The row copies of one exchange of a link, sorted, so that both ends agree on the order of rows."""

    copies: tuple[Copy, ...]

    def outgoing(self, rank: int) -> tuple[Copy, ...]:
        """Copies that leave a rank, by target, in the order in which the target lists them."""
        return tuple(copy for copy in self.copies if copy.source_rank == rank)

    def incoming(self, rank: int) -> tuple[Copy, ...]:
        """Copies that reach a rank, by source."""
        return tuple(copy for copy in self.copies if copy.target_rank == rank)

    @property
    def rows(self) -> int:
        """Rows that cross, those that stay on their rank included."""
        return sum(copy.rows for copy in self.copies)


def plan_route(batch: BatchPlan, link: Link, layouts: dict[str, Layout], stages: Stages, exchange: int) -> Route:
    """The route of one exchange of a link: a pipeline hop keeps coordinates, an edge goes from item to placeholder."""
    layout = layouts[link.source.module]
    copies = _hop(batch, link, layout, exchange) if link.is_hop else _edge(batch, link, layouts, stages, exchange)
    return Route(tuple(sorted(copies)))


def crossing(batch: BatchPlan, link: Link, stages: Stages, exchange: int) -> Iterator[tuple[int, Share, Span]]:
    """What an exchange of an edge carries: (source lane, its share, span) of each item whose document it serves."""
    lanes = batch.shares[link.source.module][stages.source_microbatch(link, exchange)]
    for lane, share in enumerate(lanes):
        for span in share.spans:
            if batch.homes[span.document] // stages.grain(link) == exchange:
                yield lane, share, span


def owned(layout: Layout, stage: int, lane: int, padded: int, first: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Cut the lane's rows [first, first + rows) by owner: (rank, first row in the rank's shard, rows)."""
    ranks = layout.lane_ranks(stage, lane)
    size = padded // len(ranks)
    while rows:
        shard, row = divmod(first, size)
        taken = min(rows, size - row)
        yield ranks[shard], row, taken
        first, rows = first + taken, rows - taken


def _hop(batch: BatchPlan, link: Link, layout: Layout, microbatch: int) -> Iterator[Copy]:
    for lane, share in enumerate(batch.shares[layout.module][microbatch]):
        rows = share.rows_in // layout.lane_size
        if rows:
            sources = layout.lane_ranks(link.source.stage, lane)
            for a, b in zip(sources, layout.lane_ranks(link.target.stage, lane), strict=True):
                yield Copy(a, b, 0, 0, rows)


def _edge(batch: BatchPlan, link: Link, layouts: dict[str, Layout], stages: Stages, exchange: int) -> Iterator[Copy]:
    source, target = layouts[link.source.module], layouts[link.target.module]
    placed = {}
    for lane, share in enumerate(batch.shares[target.module][stages.target_microbatch(link, exchange)]):
        for span in share.spans:
            placed[span.document, span.item] = (lane, share.rows_in, span.row_in)
    for lane, share, span in crossing(batch, link, stages, exchange):
        # In a module of items an item has a span of its own, in one of documents a place in its document's span.
        whole = placed.get((span.document, span.item))
        target_lane, padded, row = placed[span.document, DOCUMENT] if whole is None else whole
        position = batch.item(span).position if whole is None else 0
        left = owned(source, link.source.stage, lane, share.rows_out, span.row_out, span.rows_out)
        right = owned(target, link.target.stage, target_lane, padded, row + position, span.rows_out)
        yield from _meet(left, right)


def _meet(left: Iterator[tuple[int, int, int]], right: Iterator[tuple[int, int, int]]) -> Iterator[Copy]:
    """The common refinement of two cuts of the same rows."""
    a, b = next(left, None), next(right, None)
    while a is not None and b is not None:
        rows = min(a[2], b[2])
        yield Copy(a[0], b[0], a[1], b[1], rows)
        a = (a[0], a[1] + rows, a[2] - rows) if a[2] > rows else next(left, None)
        b = (b[0], b[1] + rows, b[2] - rows) if b[2] > rows else next(right, None)
