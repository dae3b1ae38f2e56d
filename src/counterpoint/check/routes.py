"""Routes deliver every row of a source once, to where it belongs, and no padding across an edge."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from counterpoint.check.fault import Fault
from counterpoint.plan.action import Direction, Transfer
from counterpoint.plan.batch import DOCUMENT, BatchPlan, Share
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.route import Copy, Route


@dataclass(frozen=True, slots=True, order=True)
class _Piece:
    """An item's rows: where they are in the source's rows and in the target's, as (lane, first row, rows)."""

    lane: int
    row: int
    rows: int
    target_lane: int
    target_row: int
    name: str


def check_routes(plan: Plan, batch: BatchPlan) -> Fault | None:
    """The first wrong copy over all exchanges of all links of a batch."""
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            fault = check_route(plan, batch, link, exchange, plan.route(batch, link, exchange))
            if fault is not None:
                return fault
    return None


def check_route(plan: Plan, batch: BatchPlan, link: Link, exchange: int, route: Route) -> Fault | None:
    """The first copy of a route that moves a wrong row, or the first row that is not moved exactly once."""
    source, target = plan.layouts[link.source.module], plan.layouts[link.target.module]
    ends = _Ends.of(plan, batch, link, exchange)
    pieces = sorted(_hop_pieces(ends) if link.is_hop else _edge_pieces(plan, batch, link, exchange, ends))
    starts = [(piece.lane, piece.row) for piece in pieces]
    action = Transfer(link, Direction.FORWARD, exchange)
    delivered: dict[_Piece, list[tuple[int, int, int]]] = {piece: [] for piece in pieces}
    for copy in route.copies:
        size_out, size_in = _shard_sizes(ends, link, copy, source, target)
        lane, row = _global_row(source, copy.source_rank, size_out, copy.source_row)
        index = bisect_right(starts, (lane, row)) - 1
        piece = pieces[index] if index >= 0 else None
        if piece is None or piece.lane != lane or row + copy.rows > piece.row + piece.rows:
            what = f"{_text(copy)} takes rows that are padding or of two items"
            return _fault(copy.source_rank, action, what, "only rows of one item in a copy")
        here = _global_row(target, copy.target_rank, size_in, copy.target_row)
        there = (piece.target_lane, piece.target_row + row - piece.row)
        if here != there:
            what = f"{_text(copy)} brings {piece.name} to lane {here[0]} row {here[1]}"
            return _fault(copy.target_rank, action, what, f"lane {there[0]} row {there[1]}")
        if not link.is_hop and here[0] not in _met(plan, link, lane):
            what = f"{_text(copy)} joins lane {lane} of {link.source.module} and lane {here[0]} of {link.target.module}"
            return _fault(copy.source_rank, action, what, "lanes that the template lets meet")
        if copy.source_row + copy.rows > size_out or copy.target_row + copy.rows > size_in:
            what = f"{_text(copy)} passes the end of a shard of {size_out} or {size_in} rows"
            return _fault(copy.source_rank, action, what, "a copy within one shard on both sides")
        delivered[piece].append((row, copy.rows, copy.source_rank))
    return _check_once(plan, link, action, delivered)


def _check_once(
    plan: Plan, link: Link, action: Transfer, delivered: dict[_Piece, list[tuple[int, int, int]]]
) -> Fault | None:
    for piece, rows in delivered.items():
        end = piece.row
        for row, count, rank in sorted(rows):
            if row != end:
                times = "twice" if row < end else "never"
                what = f"row {min(row, end)} of lane {piece.lane} ({piece.name}) is sent {times}"
                return _fault(rank, action, what, "every row once")
            end = row + count
        if end != piece.row + piece.rows:
            rank = plan.layouts[link.source.module].lane_ranks(link.source.stage, piece.lane)[0]
            what = f"row {end} of lane {piece.lane} ({piece.name}) is sent never"
            return _fault(rank, action, what, "every row once")
    return None


def _met(plan: Plan, link: Link, lane: int) -> range:
    """The lanes of an edge's target that a lane of its source may meet: the template was proved for no others."""
    return plan.meetings.lanes(link.target.module, *plan.meetings.served(link.source.module, lane))


@dataclass(frozen=True, slots=True)
class _Ends:
    """The shares of both ends of an exchange, by lane."""

    source: Sequence[Share]
    target: Sequence[Share]

    @classmethod
    def of(cls, plan: Plan, batch: BatchPlan, link: Link, exchange: int) -> "_Ends":
        source = plan.stages.source_microbatch(link, exchange)
        target = plan.stages.target_microbatch(link, exchange)
        return cls(batch.shares[link.source.module][source], batch.shares[link.target.module][target])


def _hop_pieces(ends: _Ends) -> Iterator[_Piece]:
    """A hop moves a lane's rows whole, padding included."""
    for lane, share in enumerate(ends.source):
        if share.rows_in:
            yield _Piece(lane, 0, share.rows_in, lane, 0, "its rows")


def _edge_pieces(plan: Plan, batch: BatchPlan, link: Link, exchange: int, ends: _Ends) -> Iterator[_Piece]:
    """Every item of the source whose document the exchange serves, with its place among the target's rows."""
    documents: dict[tuple[int, int], tuple[int, int]] = {}
    items: dict[tuple[int, int], tuple[int, int]] = {}
    for lane, share in enumerate(ends.target):
        for span in share.spans:
            (documents if span.item == DOCUMENT else items)[span.document, span.item] = (lane, span.row_in)
    grain = plan.stages.grain(link)
    for lane, share in enumerate(ends.source):
        for span in share.spans:
            if not exchange * grain <= batch.homes[span.document] < (exchange + 1) * grain:
                continue
            if items:
                target_lane, first = items[span.document, span.item]
            else:
                target_lane, row = documents[span.document, DOCUMENT]
                first = row + batch.item(span).position
            name = f"item {span.item} of document {span.document}"
            yield _Piece(lane, span.row_out, span.rows_out, target_lane, first, name)


def _shard_sizes(ends: _Ends, link: Link, copy: Copy, source: Layout, target: Layout) -> tuple[int, int]:
    """Rows of the shards that a copy leaves and reaches."""
    left = ends.source[source.coordinate(copy.source_rank).dp]
    right = ends.target[target.coordinate(copy.target_rank).dp]
    emitted = left.rows_in if link.is_hop else left.rows_out
    return emitted // source.lane_size, right.rows_in // target.lane_size


def _global_row(layout: Layout, rank: int, size: int, row: int) -> tuple[int, int]:
    """(lane, row among the lane's rows) of a row of a rank's shard."""
    _pp, dp, cp, tp = layout.coordinate(rank)
    return dp, (cp * layout.tp + tp) * size + row


def _text(copy: Copy) -> str:
    return f"the copy of {copy.rows} rows from rank {copy.source_rank} to rank {copy.target_rank}"


def _fault(rank: int, action: Transfer, what: str, expected: str) -> Fault:
    remedy = "derive the route from the batch"
    return Fault(f"rank {rank} at {action}: {what}, expected {expected}; {remedy}", ((rank, action),))
