"""Which communicators a rank's collectives use, by names that do not list ranks.

The groups of an axis partition the ranks of a module. So if the groups of two axes are the same ranks for one of them,
they are for all of these: a group has one name, that of all axes whose groups it is, and its members agree on it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterpoint.plan.communicators import COLLECTIVE_AXES, EXPERT_AXES
from counterpoint.plan.layout import Layout

if TYPE_CHECKING:
    from counterpoint.plan.plan import Plan

Axis = tuple[str, str]
"""A module, and an axis of its layout, `stage` (all ranks of a place) or `tie` (its two ranks of one embedding)."""

WORLD: Axis = ("", "world")
"""All active ranks."""

_ALONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """The communicators of a rank's collectives: their names, and which of them each axis uses, None for a rank alone.

    Ranks whose axes coincide alike share one value.
    """

    names: tuple[str, ...]
    of: Mapping[Axis, int | None]


class SlotTable:
    """The slots of every rank of a plan, and the group that each of them is there, as a number in `groups`."""

    def __init__(self, plan: "Plan") -> None:
        self.groups: list[tuple[int, ...]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._known: dict[tuple[tuple[str, ...], tuple[int, ...]], Slots] = {}
        active = plan.placement.active
        self._active, self._world = frozenset(active), self._number(active)
        self._axes = {module: self._of_module(plan, module, layout) for module, layout in plan.layouts.items()}
        self._layouts = plan.layouts

    def of(self, rank: int) -> tuple[Slots, tuple[int, ...]]:
        """A rank's slots, and the number of its group for each of their names."""
        modules = tuple(module for module, layout in self._layouts.items() if rank in layout)
        numbers = [self._world if rank in self._active else _ALONE]
        for module in modules:
            place = self._layouts[module].index(rank)
            numbers += [by_place[place] for by_place in self._axes[module].values()]
        first: dict[int, int] = {}
        coinciding = tuple(_ALONE if n == _ALONE else first.setdefault(n, len(first)) for n in numbers)
        key = (modules, coinciding)
        if key not in self._known:
            self._known[key] = self._slots(*key)
        return self._known[key], tuple(first)

    def ranks(self, rank: int, name: str) -> tuple[int, ...]:
        """The ranks of a rank's communicator of this name."""
        slots, numbers = self.of(rank)
        return self.groups[numbers[slots.names.index(name)]]

    def _slots(self, modules: tuple[str, ...], coinciding: tuple[int, ...]) -> Slots:
        axes = (WORLD, *((module, axis) for module in modules for axis in self._axes[module]))
        alike: dict[int, list[str]] = {}
        for (module, axis), slot in zip(axes, coinciding, strict=True):
            if slot != _ALONE:
                alike.setdefault(slot, []).append(f"{module}.{axis}" if module else axis)
        names = tuple(f"collective[{'='.join(alike[slot])}]" for slot in sorted(alike))
        return Slots(names, {a: None if slot == _ALONE else slot for a, slot in zip(axes, coinciding, strict=True)})

    def _of_module(self, plan: "Plan", module: str, layout: Layout) -> dict[str, list[int]]:
        """By axis, the number of the group of each place of a module's rank list."""
        found = {}
        for axis in _axes(plan, module):
            by_place = [_ALONE] * len(layout.ranks)
            for first in range(len(layout.ranks)):
                if axis == "tie":
                    self._tie(layout, first, by_place)
                elif layout.line(axis, first)[0] == first:
                    _first, step, size = layout.line(axis, first)
                    number = self._number(layout.group_at(axis, first))
                    by_place[first : first + (size - 1) * step + 1 : step] = [number] * size
            found[axis] = by_place
        return found

    def _tie(self, layout: Layout, first: int, by_place: list[int]) -> None:
        if first < layout.stage_size:
            last = first + (layout.pp - 1) * layout.stage_size
            by_place[first] = by_place[last] = self._number((layout.ranks[first], layout.ranks[last]))

    def _number(self, ranks: tuple[int, ...]) -> int:
        if len(ranks) < 2:
            return _ALONE
        if ranks not in self._numbers:
            self._numbers[ranks] = len(self.groups)
            self.groups.append(ranks)
        return self._numbers[ranks]


def _axes(plan: "Plan", module: str) -> Iterator[str]:
    """The axes of a module along which its ranks exchange anything collectively."""
    nodes = [node for node in plan.stages.nodes if node.module == module]
    yield from COLLECTIVE_AXES
    if any(plan.has_experts(node) for node in nodes):
        yield from EXPERT_AXES
    elif any(plan.pools(node) for node in nodes):
        yield "lane"
    if any(plan.exchanges(node) for node in nodes):
        yield "stage"
    if plan.is_tied(module):
        yield "tie"
