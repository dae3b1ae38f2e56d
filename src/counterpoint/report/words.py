"""Readable numbers and names."""

from itertools import groupby
from math import isfinite

from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan

_AXES = ("pp", "dp", "cp", "tp")


def bytes_text(count: float) -> str:
    """Bytes in binary units: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def overflow_text(needed: float, hardware: str, has: float) -> str:
    """Says that a step does not fit into the memory of a rank, and what helps."""
    return (
        f"It does not fit: the fullest rank needs {bytes_text(needed)} of the {bytes_text(has)} that a rank of "
        f"{hardware} has; use more ranks, shard or cut modules further, or recompute more, as counterpoint search does"
    )


def count_text(count: float) -> str:
    """A large count in thousands, millions or billions: `1.4 M`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / (1e3 if unit == 'k' else size):.1f} {unit}"
    return f"{count:,.0f}"


def number_text(value: float) -> str:
    """A measurement to three or four significant digits, without needless zeros."""
    if not isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _e, power = f"{value:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def seconds_text(seconds: float) -> str:
    """Seconds, milliseconds or microseconds to four significant digits: `12.3 ms`."""
    rounded = float(f"{seconds:.4g}")
    if not rounded or rounded >= 1e3:
        return f"{seconds:,.0f} s"
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if rounded >= size:
            return f"{number_text(rounded / size)} {unit}"
    return f"{number_text(rounded * 1e6)} us"


def used_axes(layout: Layout) -> tuple[str, ...]:
    """The axes of a layout with a degree above 1, outermost first."""
    degrees = {"pp": layout.pp, "dp": layout.dp, "cp": layout.cp, "tp": layout.tp}
    return tuple(axis for axis in _AXES if degrees[axis] > 1)


def coordinate_words(layout: Layout, rank: int) -> tuple[str, ...]:
    """The coordinates of a rank along the axes in use: `dp1`, `tp0`; `whole` if there are none."""
    place = layout.coordinate(rank)._asdict()
    return tuple(f"{axis}{place[axis]}" for axis in used_axes(layout)) or ("whole",)


def coordinate_ranges(layout: Layout, ranks: tuple[int, ...]) -> str:
    """The coordinates that several ranks cover: `dp0-3 tp0-1`."""
    words = []
    for axis in used_axes(layout):
        values = [layout.coordinate(rank)._asdict()[axis] for rank in ranks]
        low, high = min(values), max(values)
        words.append(f"{axis}{low}" if low == high else f"{axis}{low}-{high}")
    return " ".join(words) or "whole"


def part_words(plan: Plan, node: Node) -> str:
    """The parts of a stage, with consecutive layers combined: `embed, layers.0-3`."""
    start, stop = plan.splits[node.module][node.stage]
    names = [part.name for part in plan.facts[node.module].parts[start:stop]]
    words: list[str] = []
    for stem, run in groupby(names, key=lambda name: name.partition(".")[0]):
        numbers = [name.partition(".")[2] for name in run]
        if len(numbers) > 1:
            words.append(f"{stem}.{numbers[0]}-{numbers[-1]}")
        else:
            words.append(f"{stem}.{numbers[0]}" if numbers[0] else stem)
    return ", ".join(words) or "nothing"


def stage_parameters(plan: Plan, node: Node) -> int:
    """Number of parameters of a stage over all its ranks."""
    start, stop = plan.splits[node.module][node.stage]
    return sum(part.parameters for part in plan.facts[node.module].parts[start:stop])
