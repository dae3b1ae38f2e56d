"""Planning the batch of a step: the only place that deals documents and items to lanes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import final

from counterpoint.plan.batch import DOCUMENT, BatchPlan, Lanes, ModuleRows, Unit
from counterpoint.plan.cost import CostTable
from counterpoint.plan.deal_items import deal_evenly, deal_items
from counterpoint.plan.deal_packs import Cells, deal_packs, deal_packs_in_order
from counterpoint.plan.laying import lay_documents, lay_items
from counterpoint.plan.peers import Meetings
from counterpoint.plan.samples import Document, Pack


def plan_batch(
    step: int,
    packs: tuple[Pack, ...],
    modules: Mapping[str, ModuleRows],
    sink: str,
    microbatches: int,
    meetings: Meetings | None = None,
    costs: Mapping[str, CostTable] | None = None,
) -> BatchPlan:
    """Deal packs to the lanes and microbatches of the sink, and every item to a lane of its module, both by cost.

    Packs stay whole. An item's lane is one that can meet its document's lane; without `meetings` any lane can. `costs`
    are those of the modules, with what is known from other steps.
    """
    if costs is None:
        costs = {name: CostTable(module.cost) for name, module in modules.items()}
    documents = tuple(itertools.chain.from_iterable(packs))
    target = modules[sink]
    firsts = list(itertools.accumulate(map(len, packs), initial=0))
    lengths = [document.tokens for document in documents]
    cells = cells_of(firsts, lengths, target.layout.dp, microbatches, target.balance, costs[sink])
    homes, home_lanes = [0] * len(documents), [0] * len(documents)
    shares: dict[str, tuple[Lanes, ...]] = {}
    of_sink = []
    every = [(d, DOCUMENT) for d in range(len(documents))]
    for m, lanes in enumerate(cells):
        dealt = []
        for lane, numbers in enumerate(lanes):
            units = [unit for pack in numbers for unit in every[firsts[pack] : firsts[pack + 1]]]
            for d, _document in units:
                homes[d], home_lanes[d] = m, lane
            dealt.append(tuple(units))
        of_sink.append(Lanes(tuple(dealt), documents, target, lay_documents))
    for name, module in modules.items():
        if name == sink:
            shares[name] = tuple(of_sink)
            continue
        of_microbatches: list[list[int]] = [[] for _ in range(0, microbatches, module.group)]
        for d, home in enumerate(homes):
            of_microbatches[home // module.group].append(d)
        nearby = _nearby(name, module.layout.dp, target.layout.dp, meetings)
        items = _Items(module, documents, home_lanes, nearby, costs[name])
        shares[name] = tuple(Lanes(items.deal(numbers), documents, module, lay_items) for numbers in of_microbatches)
    return BatchPlan(step, documents, shares, tuple(homes), microbatches, modules, sink)


def cells_of(
    firsts: Sequence[int], lengths: Sequence[int], lanes: int, microbatches: int, balance: str, costs: CostTable
) -> Cells:
    """The packs of each microbatch and lane of the sink; packs begin at the documents `firsts`, which have these
    `lengths`."""
    if balance == "none":
        return deal_packs_in_order(len(firsts) - 1, lanes, microbatches)
    return deal_packs(_sums(costs.of_each(lengths), firsts), _sums(lengths, firsts), lanes, microbatches)


def _sums(values: Sequence[int], firsts: Sequence[int]) -> list[int]:
    """The sum of each run of values from one of `firsts` to the next."""
    up_to = list(itertools.accumulate(values, initial=0))
    return [up_to[stop] - up_to[start] for start, stop in itertools.pairwise(firsts)]


def _nearby(name: str, count: int, lanes: int, meetings: Meetings | None) -> list[range]:
    """For each lane of the sink, the lanes of a module that can meet it."""
    return [range(count) if meetings is None else meetings.lanes(name, lane, lane) for lane in range(lanes)]


@final
class _Items:
    """Deals the items of one module, microbatch by microbatch; documents have these `home_lanes`."""

    def __init__(
        self,
        module: ModuleRows,
        documents: Sequence[Document],
        home_lanes: Sequence[int],
        nearby: Sequence[range],
        costs: CostTable,
    ) -> None:
        self._module = module
        self._documents = documents
        lanes = module.layout.dp
        near_lane = [lane * lanes // len(nearby) for lane in range(len(nearby))]
        self._home_lanes, self._near = home_lanes, [near_lane[lane] for lane in home_lanes]
        self._nearby = nearby
        self._costs = costs
        self._totals = [0] * lanes

    def deal(self, numbers: Sequence[int]) -> tuple[tuple[Unit, ...], ...]:
        """The items of the documents `numbers`, by lane."""
        own: dict[range, list[int]] = {neighbours: [] for neighbours in self._nearby}
        of_lane = [own[neighbours] for neighbours in self._nearby]
        for d in numbers:
            of_lane[self._home_lanes[d]].append(d)
        dealt: list[list[Unit]] = [[] for _ in self._totals]
        for neighbours, near in own.items():
            self._deal_among(neighbours, near, dealt)
        return tuple(map(tuple, dealt))

    def _deal_among(self, lanes: range, numbers: Sequence[int], dealt: list[list[Unit]]) -> None:
        """Deal the items of documents among some lanes."""
        documents, names = self._documents, self._module.names
        units = [(d, i) for d in numbers for i, item in enumerate(documents[d].items) if item.module in names]
        if self._module.balance == "none":
            for lane, run in zip(lanes, deal_evenly(len(units), len(lanes)), strict=True):
                dealt[lane] = units[run.start : run.stop]
            return
        if len(lanes) == 1:
            dealt[lanes[0]] = units
            return
        costs = self._costs.of_each([self._module.rows_in(documents[d].items[i]) for d, i in units])
        near = [self._near[d] for d, _item in units]
        if self._module.balance == "sample":
            found = _deal_samples([d for d, _item in units], costs, near, lanes, self._totals)
        else:
            found = deal_items(costs, near, lanes, self._totals)
        for unit, lane in zip(units, found, strict=True):
            dealt[lane].append(unit)


def _deal_samples(
    samples: Sequence[int], costs: Sequence[int], near: Sequence[int], lanes: range, totals: list[int]
) -> list[int]:
    """The lane of each item, alike for the items of one of the `samples`, which follow one another."""
    sizes = [len(list(items)) for _sample, items in itertools.groupby(samples)]
    firsts = list(itertools.accumulate(sizes, initial=0))
    dealt = deal_items(_sums(costs, firsts), [near[first] for first in firsts[:-1]], lanes, totals)
    return [lane for lane, size in zip(dealt, sizes, strict=True) for _ in range(size)]
