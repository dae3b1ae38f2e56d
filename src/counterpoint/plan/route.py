"""Routes: which rows go from which rank to which, for one exchange of a link.

The rows of a lane are cut into equal consecutive shards over the cp x tp ranks of a stage; so every row has one owner
on each side, and a route is the meeting of two such cuts. Gradients go back along it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from counterpoint.plan.batch import DOCUMENT, BatchPlan, Lanes, Unit
from counterpoint.plan.graph import Link, Node
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


def plan_route(
    batch: BatchPlan, link: Link, layouts: dict[str, Layout], stages: Stages, exchange: int, rank: int | None = None
) -> Route:
    """The route of one exchange of a link: a pipeline hop keeps coordinates, an edge goes from item to placeholder.

    With a `rank` it has the copies that leave or reach this rank only, and no other lanes are laid out than those that
    it meets.
    """
    runs = _runs(_Part(batch, link, layouts, stages, exchange, rank))
    return Route(tuple(sorted(Copy(*run) for run in runs if rank is None or rank in run[:2])))


def rows_between(
    batch: BatchPlan, link: Link, layouts: dict[str, Layout], stages: Stages, exchange: int
) -> dict[tuple[int, int], int]:
    """The rows of one exchange of a link by (source rank, target rank), without those that stay on their rank."""
    found: dict[tuple[int, int], int] = {}
    for source, target, _source_row, _target_row, rows in _runs(_Part(batch, link, layouts, stages, exchange, None)):
        if source != target:
            found[source, target] = found.get((source, target), 0) + rows
    return found


_Run = tuple[int, int, int, int, int]
"""The values of a copy."""


def _runs(part: "_Part") -> Iterator[_Run]:
    return _hop(part) if part.link.is_hop else _edge(part)


def owned(layout: Layout, stage: int, lane: int, padded: int, first: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Cut the lane's rows [first, first + rows) by owner: (rank, first row in the rank's shard, rows)."""
    ranks = layout.lane_ranks(stage, lane)
    size = padded // len(ranks)
    while rows:
        shard, row = divmod(first, size)
        taken = min(rows, size - row)
        yield ranks[shard], row, taken
        first, rows = first + taken, rows - taken


@dataclass(frozen=True, slots=True)
class _Part:
    """What is planned of an exchange: all of it, or what concerns one rank."""

    batch: BatchPlan
    link: Link
    layouts: dict[str, Layout]
    stages: Stages
    exchange: int
    rank: int | None

    @property
    def sources(self) -> Lanes:
        """The shares that the rows leave."""
        module = self.link.source.module
        return self.batch.shares[module][self.stages.source_microbatch(self.link, self.exchange)]

    @property
    def targets(self) -> Lanes:
        """The shares that the rows reach."""
        module = self.link.target.module
        return self.batch.shares[module][self.stages.target_microbatch(self.link, self.exchange)]

    def place_at(self, node: Node) -> tuple[int, int]:
        """The lane that the rank has at an end of the link, and its place among the lane's ranks; -1 without any."""
        if self.rank is None or self.rank not in self.stages.ranks[node]:
            return -1, -1
        layout = self.layouts[node.module]
        _pp, dp, cp, tp = layout.coordinate(self.rank)
        return dp, cp * layout.tp + tp

    def units(self) -> Iterator[tuple[int, Unit]]:
        """What crosses an edge: source lane and item of each item whose document the exchange serves."""
        grain = self.stages.grain(self.link)
        for lane, (document, item) in self._all_units() if self.rank is None else self._own_units():
            if self.batch.homes[document] // grain == self.exchange:
                yield lane, (document, item)

    def _all_units(self) -> Iterator[tuple[int, Unit]]:
        for lane, units in enumerate(self.sources.dealt):
            for unit in units:
                yield lane, unit

    def _own_units(self) -> Iterator[tuple[int, Unit]]:
        """Those of which a row leaves the rank, and those that reach its lane."""
        (own, place), (reached, _place) = self.place_at(self.link.source), self.place_at(self.link.target)
        leaving = self._leaving(own, place) if own >= 0 else set()
        for unit in leaving:
            yield own, unit
        names = self.batch.rows[self.link.source.module].names
        for document, number in self.targets.dealt[reached] if reached >= 0 else ():
            items = self.batch.documents[document].items
            for item in range(len(items)) if number == DOCUMENT else (number,):
                if items[item].module in names:
                    unit = document, item
                    if unit not in leaving:
                        yield self.sources.lane_of[unit], unit

    def _leaving(self, lane: int, place: int) -> set[Unit]:
        """Of the units of the rank's lane those with a row in its shard."""
        share = self.sources[lane]
        size = share.rows_out // self.layouts[self.link.source.module].lane_size
        return {(s.document, s.item) for s in share.spans if _overlap(size, place, s.row_out, s.rows_out)}


def _hop(part: _Part) -> Iterator[_Run]:
    layout, link = part.layouts[part.link.source.module], part.link
    # Both ends of a hop have the same lanes.
    own = {lane for lane, _place in (part.place_at(link.source), part.place_at(link.target)) if lane >= 0}
    for lane in range(layout.dp) if part.rank is None else own:
        rows = part.sources[lane].rows_in // layout.lane_size
        if rows:
            sources = layout.lane_ranks(link.source.stage, lane)
            for a, b in zip(sources, layout.lane_ranks(link.target.stage, lane), strict=True):
                yield a, b, 0, 0, rows


def _edge(part: _Part) -> Iterator[_Run]:
    link, sources, targets = part.link, part.sources, part.targets
    source, target = part.layouts[link.source.module], part.layouts[link.target.module]
    here, there = part.place_at(link.source), part.place_at(link.target)
    is_whole = source.lane_size == target.lane_size == 1
    lane_of = targets.lane_of
    for lane, unit in part.units():
        # In a module of items an item has a span of its own, in one of documents a place in its document's span.
        place = unit if unit in lane_of else (unit[0], DOCUMENT)
        target_lane = lane_of[place]
        span, row = sources.span_of(lane, unit), targets.span_of(target_lane, place).row_in
        if place != unit:
            row += part.batch.item(span).position
        if part.rank is None and is_whole:
            # Lanes of one rank are not cut.
            (sender,) = source.lane_ranks(link.source.stage, lane)
            (receiver,) = target.lane_ranks(link.target.stage, target_lane)
            if span.rows_out:
                yield sender, receiver, span.row_out, row, span.rows_out
            continue
        padded_out, padded_in = sources[lane].rows_out, targets[target_lane].rows_in
        leaves = lane == here[0] and _overlap(padded_out // source.lane_size, here[1], span.row_out, span.rows_out)
        arrives = target_lane == there[0] and _overlap(padded_in // target.lane_size, there[1], row, span.rows_out)
        if part.rank is None or leaves or arrives:
            left = owned(source, link.source.stage, lane, padded_out, span.row_out, span.rows_out)
            right = owned(target, link.target.stage, target_lane, padded_in, row, span.rows_out)
            yield from _meet(left, right)


def _overlap(size: int, shard: int, first: int, rows: int) -> bool:
    """Whether one of the shards of `size` rows has any of a lane's rows [first, first + rows)."""
    return first < (shard + 1) * size and shard * size < first + rows


def _meet(left: Iterator[tuple[int, int, int]], right: Iterator[tuple[int, int, int]]) -> Iterator[_Run]:
    """The common refinement of two cuts of the same rows."""
    a, b = next(left, None), next(right, None)
    while a is not None and b is not None:
        rows = min(a[2], b[2])
        yield a[0], b[0], a[1], b[1], rows
        a = (a[0], a[1] + rows, a[2] - rows) if a[2] > rows else next(left, None)
        b = (b[0], b[1] + rows, b[2] - rows) if b[2] > rows else next(right, None)
