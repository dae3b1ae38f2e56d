"""The work of a step by module, drawn from the run's own data: the same on any layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import ceil
from typing import final

from counterpoint.plan.cost import CostTable, Load
from counterpoint.plan.graph import Graph
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.plan_batch import cells_of
from counterpoint.plan.samples import Document, Pack

Steps = tuple[tuple[Pack, ...], ...]
"""The packs of some steps."""

Unit = tuple[int, ...]
"""Input rows of each document of a pack, or of one item: what is dealt to lanes as a whole."""


@final
@dataclass(frozen=True, kw_only=True)
class ModuleLoad:
    """What a module computes in an average step: the units of all drawn `steps`, cheapest first, and their `costs`.

    `scored` is the share of its input rows that have a label. `least` is the share of the step's rows, or of its
    query-key pairs if that is less, in the smallest pack: no microbatch is smaller.
    """

    facts: ModelFacts
    units: tuple[Unit, ...]
    costs: tuple[int, ...]
    steps: int
    scored: float
    least: float
    _cells: dict[int, tuple[Load, float]] = field(default_factory=dict, repr=False)
    _loads: dict[int, tuple[Load, int]] = field(default_factory=dict, repr=False)

    @cached_property
    def whole(self) -> Load:
        """The load of all drawn steps together."""
        return self.facts.load(rows for unit in self.units for rows in unit)

    def cell(self, cells: int) -> tuple[Load, float]:
        """The load of one lane in one microbatch, if units are dealt evenly to so many `cells`, and by how much an
        average cell's cost differs from it; with fewer units than cells, the costliest unit.

        Cells of as many units have one load.
        """
        if cells not in self._cells:
            self._cells[cells] = self._cell(cells)
        return self._cells[cells]

    def unevenness(self, lanes: int) -> float:
        """How many times the mean cost of so many lanes in a step the fullest one has, if it has more than a unit."""
        mean = self._cost_sums[-1] / self.steps / lanes
        return self._fullest(self._cost_sums, lanes) / mean if len(self.units) > lanes * self.steps and mean else 1.0

    def heaviest_rows(self, cells: int) -> float:
        """About the rows of the fullest of so many cells."""
        return self._fullest(self._row_sums, cells)

    @cached_property
    def _cost_sums(self) -> tuple[float, ...]:
        return tuple(accumulate(self.costs, initial=0.0))

    @cached_property
    def _row_sums(self) -> tuple[float, ...]:
        return tuple(accumulate(map(sum, self.units), initial=0.0))

    def _fullest(self, sums: Sequence[float], cells: int) -> float:
        """About the most of any cell, by running sums over the units: if cells with a unit more than others have the
        cheapest units, or if all units are of the mean size, whichever is less; at least the costliest one."""
        units = len(self.units) / self.steps
        each = units // cells
        more = units - each * cells
        cheapest = sums[round(more * (each + 1) * self.steps)]
        with_more = cheapest / self.steps / more if more else 0.0
        others = (sums[-1] - cheapest) / self.steps / (cells - more)
        alike = ceil(units / cells) * sums[-1] / max(len(self.units), 1)
        return max(min(max(with_more, others), alike), sums[-1] - sums[max(len(sums) - 2, 0)])

    def _cell(self, cells: int) -> tuple[Load, float]:
        number = len(self.units) / self.steps / cells
        count = round(number) if number > 1.0 else 0
        if count not in self._loads:
            self._loads[count] = self._of_units(count)
        load, cost = self._loads[count]
        return load, sum(self.costs) / self.steps / cells / cost if count else 1.0

    def _of_units(self, count: int) -> tuple[Load, int]:
        """The load of so many units and their cost, for 0 that of the costliest one."""
        if not count:
            return self.facts.load(self.units[-1] if self.units else ()), 0
        stride = len(self.units) / count
        chosen = [int((place + 0.5) * stride) for place in range(count)]
        load = self.facts.load(rows for place in chosen for rows in self.units[place])
        return load, max(sum(self.costs[place] for place in chosen), 1)


@final
@dataclass(frozen=True, slots=True)
class Workload:
    """Drawn steps, the fewest packs in one of them, and the modules' loads; packs of the `sink` are dealt to lanes by
    `balance`."""

    steps: Steps
    samples: int
    modules: Mapping[str, ModuleLoad]
    sink: str
    balance: str
    _filled: dict[tuple[int, int], float] = field(default_factory=dict, repr=False)

    def filled(self, lanes: int, microbatches: int) -> float:
        """How many microbatches of an average step have a document, if packs are dealt to these for so many lanes: few
        long packs may leave some empty, which no rank computes."""
        key = lanes, microbatches
        if key not in self._filled:
            self._filled[key] = sum(self._of_step(packs, *key) for packs in self.steps) / len(self.steps)
        return self._filled[key]

    def _of_step(self, packs: Sequence[Pack], lanes: int, microbatches: int) -> int:
        firsts = list(accumulate(map(len, packs), initial=0))
        lengths = [document.tokens for pack in packs for document in pack]
        costs = CostTable(self.modules[self.sink].facts.cost)
        return sum(map(any, cells_of(firsts, lengths, lanes, microbatches, self.balance, costs)))


def workload(graph: Graph, facts: Mapping[str, ModelFacts], steps: Steps, balance: str = "cost") -> Workload:
    """The work of some drawn steps, with `data.balance`."""
    modules = {name: _module_load(graph, facts[name], name, steps) for name in graph.modules}
    return Workload(steps, min(map(len, steps)), modules, graph.sinks[0], balance)


def _rows(graph: Graph, module: str, documents: Sequence[Document]) -> Unit:
    """The input rows of each document, or item, that a module computes."""
    if module in graph.sinks:
        return tuple(document.tokens for document in documents)
    roots = graph.roots(module)
    items = [item for document in documents for item in document.items]
    if roots:
        return tuple(item.rows for item in items if item.module in roots)
    return tuple(item.rows_in for item in items if item.module == module)


def _module_load(graph: Graph, facts: ModelFacts, module: str, steps: Steps) -> ModuleLoad:
    cost, packs = facts.cost, [pack for drawn in steps for pack in drawn]
    rows = [_rows(graph, module, pack) for pack in packs]
    units = rows if module in graph.sinks else [(each,) for unit in rows for each in unit]
    whole = facts.load(each for unit in rows for each in unit)
    loads = [facts.load(unit) for unit in rows]
    masks = {mask for part in facts.parts for mask, _flops in part.flops_per_pair}
    shares = [min(each.rows for each in loads) / max(whole.rows, 1)]
    shares += [min(each.pairs(mask) for each in loads) / max(whole.pairs(mask), 1) for mask in masks]
    labels = sum(document.loss_tokens for pack in packs for document in pack)
    ranked = sorted((sum(map(cost.of, unit)), unit) for unit in units)
    return ModuleLoad(
        facts=facts,
        units=tuple(unit for _cost, unit in ranked),
        costs=tuple(each for each, _unit in ranked),
        steps=len(steps),
        scored=min(1.0, labels / max(whole.rows, 1)) if module in graph.sinks else 1.0,
        least=len(steps) * min(shares),
    )
