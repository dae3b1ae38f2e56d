"""Inspections and differences as text on a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from counterpoint.inspection.difference import Difference, TensorDifference
from counterpoint.inspection.inspect import Inspection
from counterpoint.report.terminal import new_table, title
from counterpoint.report.words import bytes_text, count_text, number_text

_MOST_SHOWN, _MOST_NAMED = 20, 5


def inspection_text(found: Inspection) -> Iterator[RenderableType]:
    """What lies in a folder: a line about it, its modules, what a module can start from, and its health."""
    yield title(found.path, found.kind)
    if found.folder != found.path:
        yield f"opened: {found.folder}"
    if found.steps:
        yield f"checkpoints: steps {', '.join(map(str, found.steps))}"
    step = "" if found.step is None else f"step {found.step}, "
    files = "1 file" if found.files == 1 else f"{found.files} files"
    others = f", {found.others} values that are no tensors" if found.others else ""
    yield f"{step}{len(found.tensors)} tensors in {files}, {bytes_text(found.size_bytes)}{others}"
    yield _modules(found)
    starts = [one for one in found.modules if one.start is not None]
    if starts:
        yield title("A module can start from it")
        yield from (f"{one.name}: {one.start}" for one in starts)
    yield title("Health")
    yield from found.notes
    yield from found.problems
    if not found.problems:
        yield "every digest agrees" if found.verified else "all files are there and have their sizes"


def _modules(found: Inspection) -> Table:
    """A row for each module; columns that no module fills are left out."""
    columns = {
        "module": [one.name for one in found.modules],
        "kind": [one.kind for one in found.modules],
        "tensors": [str(one.tensors) for one in found.modules],
        "parameters": [count_text(one.parameters) for one in found.modules],
        "bytes": [bytes_text(one.size_bytes) for one in found.modules],
        "dtypes": [", ".join(one.dtypes) for one in found.modules],
        "layout": [one.layout or "" for one in found.modules],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    table = new_table(*filled, right=("tensors", "parameters", "bytes"))
    for row in zip(*filled.values(), strict=True):
        table.add_row(*row)
    return table


def difference_text(found: Difference) -> Iterator[RenderableType]:
    """In what two folders differ: counts, names that only one has, and the tensors that differ most."""
    names = " by names of ours" if found.mapped else ""
    yield f"A: {found.a}\nB: {found.b}\n{found.compared} tensors compared{names}, {len(found.different)} differ"
    for where, only in (("A", found.only_in_a), ("B", found.only_in_b)):
        if only:
            rest = f" and {len(only) - _MOST_NAMED} more" if len(only) > _MOST_NAMED else ""
            yield f"only in {where}: {', '.join(only[:_MOST_NAMED])}{rest}"
    if found.different:
        table = new_table(
            "tensor", "largest difference", "relative", "A", "B", right=("largest difference", "relative")
        )
        for one in sorted(found.different, key=_largest, reverse=True)[:_MOST_SHOWN]:
            numbers = (
                ("", "") if one.absolute is None else (number_text(one.absolute), number_text(one.relative or 0.0))
            )
            table.add_row(one.name, *numbers, *(_form(one, side) for side in (0, 1)))
        yield table
        if len(found.different) > _MOST_SHOWN:
            yield f"{len(found.different) - _MOST_SHOWN} more differ; --json lists all"
    if found.is_equal:
        yield "equal: names, shapes and every value" + ("" if found.mapped else ", and dtypes")


def _largest(one: TensorDifference) -> float:
    return float("inf") if one.relative is None else one.relative


def _form(one: TensorDifference, side: int) -> str:
    """Shape and dtype on a side, if the sides differ in them."""
    parts = [str(one.shapes[side])] if one.shapes[0] != one.shapes[1] else []
    return " ".join([*parts, *([str(one.dtypes[side])] if one.dtypes[0] != one.dtypes[1] else [])])
