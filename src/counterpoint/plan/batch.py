"""The batch plan of one step: which rows each lane of each module computes, from metadata alone.

Every rank computes it and reaches the same value; there is no second place where a batch is planned.
"""

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from counterpoint.plan.cost import ROWS, Cost
from counterpoint.plan.layout import Layout
from counterpoint.plan.peers import Meetings
from counterpoint.plan.samples import Document, Item, Pack

DOCUMENT = -1
"""The `item` of a span that is a document itself, not one of its items."""


@dataclass(frozen=True, slots=True)
class Span:
    """A document or an item laid into a lane: `rows_in` rows from `row_in` on enter, `rows_out` rows leave."""

    document: int
    item: int
    row_in: int
    rows_in: int
    row_out: int
    rows_out: int


@dataclass(frozen=True, slots=True)
class Share:
    """One lane's work in one microbatch; `rows_in` and `rows_out` include the padding after the last span."""

    spans: tuple[Span, ...]
    rows_in: int
    rows_out: int


@dataclass(frozen=True, slots=True)
class ModuleRows:
    """What the batch plan needs to know of a module.

    `merge` input rows become one output row; `cost` gives an item's cost from its input rows; `balance` says how items
    are dealt to lanes: none, sample or cost. One microbatch of the module covers `group` microbatches of the step. A
    module that reads the rows of other encoders computes the items of these `roots`; without roots, its own items.
    The module puts `prefix` rows of its own before the rows of each item; they do not leave it. With `queries` that
    many learned rows leave for each item, whatever its size, and none of its own.
    """

    layout: Layout
    merge: int = 1
    group: int = 1
    roots: frozenset[str] = frozenset()
    prefix: int = 0
    queries: int = 0
    cost: Cost = ROWS
    balance: str = "cost"

    def computes(self, item: Item) -> bool:
        """Whether an item passes through the module."""
        return item.module in self.roots if self.roots else item.module == self.layout.module

    @property
    def lead(self) -> int:
        """Output rows that an item's prefix takes up, so that the groups of its own rows stay whole."""
        return -(-self.prefix // self.merge)

    def rows_in(self, item: Item) -> int:
        """The rows of an item that enter: its patches or frames, or the rows that its root made of them."""
        return item.rows if self.roots else item.rows_in

    def extent(self, item: Item) -> int:
        """Rows that an item takes up after the merge, its prefix included."""
        return self.lead + (self.rows_in(item) // self.merge if self.queries else item.rows)


@dataclass(frozen=True)
class BatchPlan:
    """All documents of a step and, per module, `shares[module][microbatch][lane]`, by the module's own microbatches.

    `homes` gives each document's microbatch; the step has `microbatches` of them.
    """

    step: int
    documents: tuple[Document, ...]
    shares: dict[str, tuple[tuple[Share, ...], ...]]
    homes: tuple[int, ...]
    microbatches: int
    _served: dict[str, frozenset[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def loss_tokens(self) -> int:
        """The one denominator of the step's loss."""
        return sum(document.loss_tokens for document in self.documents)

    def mtp_loss_tokens(self, depth: int) -> int:
        """The denominator of the loss at a depth of multi-token prediction, counted from 0."""
        return sum(document.mtp_loss_tokens[depth] for document in self.documents)

    def is_empty(self, module: str, microbatch: int) -> bool:
        """Whether no lane of a module has a row in a microbatch, so that all ranks skip it alike."""
        return all(not share.spans for share in self.shares[module][microbatch])

    def served(self, module: str) -> frozenset[int]:
        """The step's microbatches for which a module has rows."""
        if module not in self._served:
            spans = (span for lanes in self.shares[module] for share in lanes for span in share.spans)
            self._served[module] = frozenset(self.homes[span.document] for span in spans)
        return self._served[module]

    def digest(self) -> int:
        """63 bits that differ between different plans; ranks compare it before a step."""
        text = repr((self.step, self.documents, sorted(self.shares.items())))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def items_of(self, module: "ModuleRows") -> Iterator[Item]:
        """All items of the step that pass through a module."""
        return (item for document in self.documents for item in document.items if module.computes(item))

    def item(self, span: Span) -> Item:
        """The item that a span of a source module lays out."""
        return self.documents[span.document].items[span.item]


def plan_batch(
    step: int,
    packs: tuple[Pack, ...],
    modules: dict[str, ModuleRows],
    sink: str,
    microbatches: int,
    meetings: Meetings | None = None,
) -> BatchPlan:
    """Deal packs to the lanes and microbatches of the sink, and every item to a lane of its module by cost.

    An item's lane is one that can meet its document's lane; without `meetings` any lane can.
    """
    documents = tuple(document for pack in packs for document in pack)
    target = modules[sink]
    lanes = target.layout.dp
    cells = _cells(packs, microbatches * lanes)
    shares: dict[str, tuple[tuple[Share, ...], ...]] = {}
    homes = tuple(number // lanes for number, cell in enumerate(cells) for _document in cell)
    shares[sink] = tuple(
        tuple(_document_share(cells[m * lanes + lane], documents, target) for lane in range(lanes))
        for m in range(microbatches)
    )
    for name, module in modules.items():
        if name == sink:
            continue
        rows: list[tuple[Share, ...]] = []
        totals = [0] * module.layout.dp
        homes_of = [number % lanes for number, cell in enumerate(cells) for _document in cell]
        near = [lane * module.layout.dp // lanes for lane in homes_of]
        nearby = [range(module.layout.dp) if meetings is None else meetings.lanes(name, n, n) for n in range(lanes)]
        for m in range(0, microbatches, module.group):
            own: dict[range, list[tuple[int, int]]] = {neighbours: [] for neighbours in nearby}
            for d in itertools.chain(*cells[m * lanes : (m + module.group) * lanes]):
                own[nearby[homes_of[d]]] += [(d, i) for i, it in enumerate(documents[d].items) if module.computes(it)]
            dealt: list[list[tuple[int, int]]] = []
            for neighbours, items in own.items():
                dealt += _deal(items, documents, module, neighbours, totals, near)
            rows.append(tuple(_item_share(lane, documents, module) for lane in dealt))
        shares[name] = tuple(rows)
    return BatchPlan(step, documents, shares, homes, microbatches)


def _cells(packs: tuple[Pack, ...], count: int) -> list[list[int]]:
    """Document numbers per cell; consecutive packs, cell sizes differ by at most one pack."""
    first, numbers = 0, []
    for pack in packs:
        numbers.append(range(first, first + len(pack)))
        first += len(pack)
    bounds = [len(packs) * i // count for i in range(count + 1)]
    return [[d for r in numbers[a:b] for d in r] for a, b in itertools.pairwise(bounds)]


def _deal(
    items: list[tuple[int, int]],
    documents: tuple[Document, ...],
    module: ModuleRows,
    lanes: range,
    totals: list[int],
    near: list[int],
) -> list[list[tuple[int, int]]]:
    """Items for each of `lanes`: `cost` and `sample` give the costliest to the least loaded lane (Graham 1969).

    Ties go to the lane with the least in `totals`, the step's loads so far, which this updates. Items of the same cost
    then trade places, so that as many as possible are in the lane `near` their document.
    """
    if module.balance == "none":
        bounds = [len(items) * i // len(lanes) for i in range(len(lanes) + 1)]
        return [items[a:b] for a, b in itertools.pairwise(bounds)]
    units: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for document, item in items:
        units.setdefault((document, item if module.balance == "cost" else 0), []).append((document, item))
    costs = {
        key: sum(module.cost.of(module.rows_in(documents[d].items[i])) for d, i in unit) for key, unit in units.items()
    }
    loads = [(0, totals[lane], lane) for lane in lanes]
    heapq.heapify(loads)
    lane_of: dict[tuple[int, int], int] = {}
    for key in sorted(units, key=lambda k: (-costs[k], k)):
        load, total, lane = loads[0]
        heapq.heapreplace(loads, (load + costs[key], total, lane))
        lane_of[key] = lane
    for load, _total, lane in loads:
        totals[lane] += load
    dealt: dict[int, list[tuple[int, int]]] = {lane: [] for lane in lanes}
    for key, lane in _traded(lane_of, costs, near).items():
        dealt[lane].extend(units[key])
    return [sorted(lane) for lane in dealt.values()]


def _traded(
    lane_of: dict[tuple[int, int], int], costs: dict[tuple[int, int], int], near: list[int]
) -> dict[tuple[int, int], int]:
    """The lanes of items after a trade among equal costs: an item takes a place in its document's lane if it can."""
    traded: dict[tuple[int, int], int] = {}
    alike: dict[int, list[tuple[int, int]]] = {}
    for key in sorted(lane_of):
        alike.setdefault(costs[key], []).append(key)
    for keys in alike.values():
        places = Counter(lane_of[key] for key in keys)
        away = []
        for key in keys:
            lane = near[key[0]]
            if places[lane]:
                places[lane] -= 1
                traded[key] = lane
            else:
                away.append(key)
        traded |= zip(away, sorted(places.elements()), strict=True)
    return traded


def _document_share(cell: list[int], documents: tuple[Document, ...], module: ModuleRows) -> Share:
    spans, row = [], 0
    for d in cell:
        tokens = documents[d].tokens
        spans.append(Span(d, DOCUMENT, row, tokens, row, tokens))
        row += tokens
    padded = _padded(row, module.layout.lane_size)
    return Share(tuple(spans), padded, padded)


def _item_share(items: list[tuple[int, int]], documents: tuple[Document, ...], module: ModuleRows) -> Share:
    """Lay whole items into the equal pieces of the lane's cp ranks, or end to end if one item exceeds a piece.

    Queries leave in the piece of their item, with nothing before or between them.
    """
    extents = {(d, i): module.extent(documents[d].items[i]) for d, i in items}
    pieces = _deal_pieces(items, extents, module.layout.cp)
    multiple = module.layout.lane_size // len(pieces)
    size = _padded(max(sum(extents[key] for key in piece) for piece in pieces), multiple)
    left = _padded(max(map(len, pieces)) * module.queries, multiple) if module.queries else size
    spans = []
    for number, piece in enumerate(pieces):
        row, row_out = number * size, number * left
        for d, i in piece:
            item = documents[d].items[i]
            first = row + module.lead
            out = row_out if module.queries else first
            spans.append(Span(d, i, first * module.merge, module.rows_in(item), out, item.rows))
            row, row_out = row + extents[d, i], row_out + module.queries
    return Share(tuple(spans), len(pieces) * size * module.merge, len(pieces) * left)


def _deal_pieces(
    items: list[tuple[int, int]], rows: dict[tuple[int, int], int], cp: int
) -> list[list[tuple[int, int]]]:
    """Deal items by their `rows` to cp ranks, the largest first to the emptiest; all go into one piece, to be cut, if
    one exceeds a share."""
    if cp == 1 or max(rows.values(), default=0) * cp > sum(rows.values()):
        return [items]
    pieces: list[list[tuple[int, int]]] = [[] for _ in range(cp)]
    loads = [0] * cp
    for key in sorted(items, key=lambda key: (-rows[key], key)):
        piece = min(range(cp), key=lambda number: (loads[number], number))
        loads[piece] += rows[key]
        pieces[piece].append(key)
    return [sorted(piece) for piece in pieces]


def _padded(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple
