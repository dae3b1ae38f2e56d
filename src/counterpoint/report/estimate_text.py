"""An estimate for the terminal: seconds of a step, where they go, memory, and the timeline of each role."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counterpoint.plan.layout import format_ranks
from counterpoint.report.terminal import new_table, title
from counterpoint.report.words import bytes_text, number_text, overflow_text, seconds_text
from counterpoint.simulate.estimate import Estimate
from counterpoint.simulate.played import Breakdown, draw

_TOLD_LATENESS = 0.02
"""The share of a step from which on devices that wait for their hosts are worth a sentence."""

CLOCK_COLUMNS = 56
"""Columns of the drawn timeline; with its labels it fits into 80 columns."""


def estimate_text(found: Estimate) -> RenderableType:
    """The section `Estimate` of a plan, for a terminal of 80 columns or more."""
    return Group(
        title("Estimate", f"on {found.hardware}, {found.source}"),
        *(Text(line) for line in sentences(found)),
        title("Where a step goes", "milliseconds by rank"),
        _breakdowns(found),
        title("Timeline on that hardware", f"{seconds_text(found.timeline.seconds)}, the first step"),
        Text(draw(found.timeline, CLOCK_COLUMNS)),
    )


def sentences(found: Estimate) -> Iterator[str]:
    """The figures of an estimate, in sentences."""
    yield (
        f"A step takes {seconds_text(found.seconds)}: {number_text(found.tokens_per_second)} tokens/s, model FLOP "
        f"utilisation {found.utilisation:.1%}."
    )
    yield (
        f"Bubble {found.bubble:.1%}, exposed communication {found.exposed:.1%} of all ranks' time; memory at most "
        f"{bytes_text(found.memory_bytes)} a rank."
    )
    if not found.fits:
        yield f"{overflow_text(found.memory_bytes, found.hardware, found.rank_bytes)}."
    late = max(found.timeline.late.values(), default=0.0)
    if late >= _TOLD_LATENESS * found.timeline.seconds:
        yield (
            f"Devices wait up to {seconds_text(late)} of a step for their hosts, which take "
            f"{seconds_text(found.timeline.launching)} to launch one: fewer and larger microbatches help."
        )


def _breakdowns(found: Estimate) -> Table:
    modules = list(found.breakdown.computes)
    columns = (*modules, "communication", "optimizer", "idle", "memory")
    table = new_table("ranks", *columns, right=columns)
    for ranks in found.timeline.same:
        own = found.timeline.breakdowns[ranks[0]]
        table.add_row(format_ranks(ranks), *_cells(own, modules), bytes_text(found.memory[ranks[0]].total_bytes))
    return table


def _cells(own: Breakdown, modules: list[str]) -> Iterator[str]:
    computes = [own.computes.get(module, 0.0) for module in modules]
    for seconds in (*computes, own.communication, own.optimizer, own.idle):
        yield f"{seconds * 1e3:,.2f}" if seconds else ""
