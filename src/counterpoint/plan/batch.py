"""The batch plan of one step: which rows each lane of each module computes, from metadata alone.

Every rank computes it and reaches the same value. Which lane has which documents and items is in it for all lanes;
where they lie in a lane's rows is computed for the lanes that a rank looks at.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from struct import pack
from typing import NamedTuple, final, overload

from counterpoint.plan.cost import ROWS, Cost
from counterpoint.plan.layout import Layout
from counterpoint.plan.samples import Document, Item

DOCUMENT = -1
"""The `item` of a span that is a document itself, not one of its items."""


class Span(NamedTuple):
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

    @property
    def is_even(self) -> bool:
        """Whether all documents, or items, have one length and fill the rows."""
        return len({span.rows_in for span in self.spans}) == 1 and sum(s.rows_in for s in self.spans) == self.rows_in


@dataclass(frozen=True, slots=True)
class ModuleRows:
    """What the batch plan needs to know of a module.

    `merge` input rows become one output row; `cost` gives the cost of a document or item from its input rows; `balance`
    says how they are dealt to lanes: none, sample or cost. One microbatch of the module covers `group` microbatches of
    the step. A module that reads the rows of other encoders computes the items of these `roots`; without roots, its own
    items.
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

    @property
    def names(self) -> frozenset[str]:
        """The modules whose items pass through the module."""
        return self.roots or frozenset({self.layout.module})

    def computes(self, item: Item) -> bool:
        """Whether an item passes through the module."""
        return item.module in self.names

    @property
    def lead(self) -> int:
        """Output rows that an item's prefix takes up, so that the groups of its own rows stay whole."""
        return -(-self.prefix // self.merge)

    def rows_in(self, item: Item) -> int:
        """The rows of an item that enter: its patches or frames, or the rows that its root made of them."""
        return item.rows if self.roots else item.rows_in

    def extents(self, items: Iterable[Item]) -> list[int]:
        """Rows that each item takes up after the merge, its prefix included."""
        lead, merge = self.lead, self.merge
        if self.queries:
            return [lead + self.rows_in(item) // merge for item in items]
        return [lead + item.rows for item in items]


Unit = tuple[int, int]
"""What is dealt to a lane: an item as (document, item), or a document as (document, DOCUMENT)."""


@final
@dataclass(frozen=True)
class Lanes(Sequence[Share]):
    """The shares of one microbatch of a module by lane, each laid out by `lay` when it is first looked up.

    `dealt` are the units of each lane, in the order of documents.
    """

    dealt: tuple[tuple[Unit, ...], ...]
    documents: tuple[Document, ...] = field(repr=False, compare=False)
    rows: ModuleRows
    lay: Callable[[Sequence[Unit], Sequence[Document], ModuleRows], Share] = field(repr=False)
    _laid: dict[int, Share] = field(default_factory=dict, init=False, repr=False, compare=False)
    _spans: dict[int, dict[Unit, Span]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @overload
    def __getitem__(self, lane: int) -> Share: ...
    @overload
    def __getitem__(self, lane: slice) -> tuple[Share, ...]: ...
    def __getitem__(self, lane: int | slice) -> Share | tuple[Share, ...]:
        if isinstance(lane, slice):
            return tuple(self[number] for number in range(*lane.indices(len(self))))
        if lane not in self._laid:
            self._laid[lane] = self.lay(self.dealt[lane], self.documents, self.rows)
        return self._laid[lane]

    def __len__(self) -> int:
        return len(self.dealt)

    def __reduce__(self) -> tuple[type["Lanes"], tuple[object, ...]]:
        """What was laid out stays behind when a plan is sent to another process."""
        return Lanes, (self.dealt, self.documents, self.rows, self.lay)

    @cached_property
    def lane_of(self) -> dict[Unit, int]:
        """The lane of each unit."""
        return {unit: lane for lane, units in enumerate(self.dealt) for unit in units}

    def span_of(self, lane: int, unit: Unit) -> Span:
        """Where a unit of a lane lies."""
        if lane not in self._spans:
            self._spans[lane] = {(span.document, span.item): span for span in self[lane].spans}
        return self._spans[lane][unit]

    def lengths(self, lane: int) -> list[int]:
        """Rows that enter of each document or item of a lane, without laying them out."""
        documents, rows_in = self.documents, self.rows.rows_in
        return [
            documents[d].tokens if item == DOCUMENT else rows_in(documents[d].items[item])
            for d, item in self.dealt[lane]
        ]


@dataclass(frozen=True)
class BatchPlan:
    """All documents of a step and, per module, `shares[module][microbatch][lane]`, by the module's own microbatches.

    `homes` gives each document's microbatch; the step has `microbatches` of them. Documents are the units of the module
    `sink`; `rows` says how units lie in the lanes of each module.
    """

    step: int
    documents: tuple[Document, ...]
    shares: Mapping[str, Sequence[Lanes]]
    homes: tuple[int, ...]
    microbatches: int
    rows: Mapping[str, ModuleRows]
    sink: str
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
        group = self.rows[module].group
        return self.served(module).isdisjoint(range(microbatch * group, (microbatch + 1) * group))

    def served(self, module: str) -> frozenset[int]:
        """The step's microbatches for which a module has rows."""
        if module not in self._served:
            found = set(self.homes) if module == self.sink else self._with_items(self.rows[module])
            self._served[module] = frozenset(found)
        return self._served[module]

    def _with_items(self, module: ModuleRows) -> set[int]:
        """The step's microbatches in which a document has an item that passes through a module."""
        names = module.names
        found: set[int] = set()
        for document, home in zip(self.documents, self.homes, strict=True):
            if home not in found and any(item.module in names for item in document.items):
                found.add(home)
                if len(found) == self.microbatches:
                    break
        return found

    def has_even_lanes(self, microbatch: int) -> bool:
        """Whether all lanes of the sink have as many rows in a microbatch."""
        lanes, size = self.shares[self.sink][microbatch], self.rows[self.sink].layout.lane_size
        return len({-(-sum(lanes.lengths(lane)) // size) for lane in range(len(lanes))}) == 1

    def digest(self) -> int:
        """63 bits that differ between different plans; ranks compare it before a step."""
        told = hashlib.sha256(repr([(name, *_laying(rows)) for name, rows in sorted(self.rows.items())]).encode())
        for numbers in self._numbers():
            data = pack(f"<{len(numbers)}q", *numbers)
            told.update(len(data).to_bytes(8, "little") + data)
        return int.from_bytes(told.digest()[:8], "big") >> 1

    def _numbers(self) -> Iterator[list[int]]:
        """All that is planned, as runs of numbers."""
        documents = self.documents
        items = [item for document in documents for item in document.items]
        modules = {name: number for number, name in enumerate(sorted({item.module for item in items}))}
        yield [self.step, self.microbatches, *self.homes]
        yield [document.source for document in documents]
        yield [document.index for document in documents]
        yield [document.tokens for document in documents]
        yield [document.loss_tokens for document in documents]
        yield [number for document in documents for number in (len(document.items), *document.mtp_loss_tokens)]
        yield [item.position for item in items]
        yield [item.rows_in for item in items]
        yield [item.rows for item in items]
        yield [modules[item.module] for item in items]
        yield [-1 if item.columns is None else item.columns for item in items]
        for _module, shares in sorted(self.shares.items()):
            for lanes in shares:
                yield list(map(len, lanes.dealt))
                yield list(chain.from_iterable(chain.from_iterable(lanes.dealt)))

    def items_of(self, module: "ModuleRows") -> Iterator[Item]:
        """All items of the step that pass through a module."""
        names = module.names
        return (item for document in self.documents for item in document.items if item.module in names)

    def item(self, span: Span) -> Item:
        """The item that a span of a source module lays out."""
        return self.documents[span.document].items[span.item]


def _laying(rows: ModuleRows) -> tuple[int, ...]:
    """What places units in the rows of a lane."""
    return rows.layout.cp, rows.layout.tp, rows.merge, rows.prefix, rows.queries
