"""A plan for the terminal: placement, links, proof, programs, simulated timeline and memory."""

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counterpoint.check.grid import format_programs
from counterpoint.errors import InputError
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.plan.startup import start_up
from counterpoint.report.rank_text import rank_text
from counterpoint.report.summary import Summary, summarize
from counterpoint.report.terminal import memory_note, memory_table, new_table, title
from counterpoint.report.words import (
    coordinate_ranges,
    coordinate_words,
    count_text,
    part_words,
    stage_parameters,
)

CLOCK_COLUMNS = 56
"""Columns of the drawn timeline; with its labels it fits into 80 columns."""
MOST_ROWS = 16
"""With more ranks the placement has a row per stage instead of one per rank."""
MOST_ACTIONS = 36
"""A longer program is shortened to its beginning and end; `--rank` prints all of it."""


def describe_plan(plan: Plan, rank: int | None = None, batch: BatchPlan | None = None) -> RenderableType:
    """All of a plan, or one rank's part of it, for a terminal of 80 columns or more.

    Raises InputError for a rank outside the world and ProofError for a plan that is not safe.
    """
    if rank is not None and not 0 <= rank < plan.placement.world_size:
        raise InputError(
            f"--rank: got {rank}, expected a rank from 0 to {plan.placement.world_size - 1}; choose one of these"
        )
    summary = summarize(plan, batch)
    if rank is not None:
        return rank_text(summary, rank)
    linked: list[RenderableType] = [title("Links"), _links(summary)] if summary.links else []
    return Group(
        title("Placement", f"{plan.placement.kind}, {plan.placement.world_size} ranks"), _placement(plan),
        title("Modules"), _modules(plan),
        *linked,
        title("Proof"), str(summary.proof),
        title("Programs", f"{plan.kind}, {plan.microbatches} microbatches"), _programs(plan),
        title("Timeline", "forward costs 1, backward 2"), _clock(summary), _clock_figures(summary),
        title("Memory per rank"), memory_table(summary, summary.same_memory), memory_note(summary),
        title("Start-up"), str(start_up(plan)),
    )  # fmt: skip


def _placement(plan: Plan) -> Table:
    """A row per rank, or, in a large world, per set of ranks with the same stages."""
    table = new_table("ranks", *plan.graph.modules)
    for ranks in _placement_rows(plan):
        cells = [_placement_cell(plan, module, ranks) for module in plan.graph.modules]
        table.add_row(format_ranks(ranks), *cells)
    if plan.placement.idle:
        table.add_row(format_ranks(plan.placement.idle), *["idle"] * len(plan.graph.modules))
    return table


def _placement_rows(plan: Plan) -> list[tuple[int, ...]]:
    if len(plan.placement.active) <= MOST_ROWS:
        return [(rank,) for rank in plan.placement.active]
    rows: dict[object, list[int]] = {}
    for rank in plan.placement.active:
        rows.setdefault(plan.nodes_of(rank), []).append(rank)
    return [tuple(ranks) for ranks in rows.values()]


def _placement_cell(plan: Plan, module: str, ranks: tuple[int, ...]) -> str:
    nodes = [node for node in plan.nodes_of(ranks[0]) if node.module == module]
    if not nodes:
        return "."
    layout = plan.layouts[module]
    place = " ".join(coordinate_words(layout, ranks[0])) if len(ranks) == 1 else coordinate_ranges(layout, ranks)
    return f"{place}: {part_words(plan, nodes[0])}"


def _modules(plan: Plan) -> Table:
    numbers = ("parameters", "active", "per rank")
    table = new_table("module", "layout", *numbers, right=numbers)
    for module in plan.graph.modules:
        layout = plan.layouts[module]
        nodes = [node for node in plan.stages.nodes if node.module == module]
        heaviest = max(stage_parameters(plan, node) for node in nodes) / (layout.tp * layout.dp_shard * layout.cp)
        degrees = str(layout).partition(": ")[2]
        facts = plan.facts[module]
        counts = (count_text(facts.parameters), count_text(facts.active_parameters), f"<= {count_text(heaviest)}")
        table.add_row(module, degrees, *counts)
    return table


def _links(summary: Summary) -> Table:
    table = new_table("link", "rows of", "from ranks", "to ranks", "communicators")
    table.columns[0].no_wrap = True
    ranks = summary.plan.stages.ranks
    for entry in summary.links:
        table.add_row(
            str(entry.link),
            f"{entry.columns} {summary.plan.dtype}",
            format_ranks(ranks[entry.link.source]),
            format_ranks(ranks[entry.link.target]),
            entry.carriers,
        )
    return table


def _programs(plan: Plan) -> Table:
    table = new_table("ranks", "actions of a step, in order")
    for line in format_programs(plan.schedule.programs).splitlines():
        label, _bar, words = line.partition("|")
        table.add_row(label.removeprefix("rank").strip(), _shortened(words.split()))
    return table


def _shortened(actions: list[str]) -> str:
    if len(actions) <= MOST_ACTIONS:
        return "  ".join(actions)
    half = MOST_ACTIONS // 2
    left_out = f"... {len(actions) - MOST_ACTIONS} more ..."
    return "  ".join([*actions[:half], left_out, *actions[-half:]])


def _clock(summary: Summary) -> Text:
    """The drawn timeline, with one line for all ranks that have the same."""
    groups = summary.same_programs
    intervals = summary.timeline.intervals
    firsts = {ranks[0]: intervals[ranks[0]] for ranks in groups}
    drawn = (
        replace(summary.timeline, by_role=firsts, ranks={rank: (rank,) for rank in firsts})
        .draw(CLOCK_COLUMNS)
        .splitlines()
    )
    labels = [format_ranks(ranks) for ranks in groups]
    width = min(max(len(label) for label in labels), 12)
    lines = [f"{label:>{width}} {line[line.index('|') :]}" for label, line in zip(labels, drawn)]
    return Text("\n".join([*lines, *drawn[len(groups) :]]))


def _clock_figures(summary: Summary) -> str:
    timeline = summary.timeline
    flights = ", ".join(f"{node} {count}" for node, count in sorted(timeline.in_flight.items()))
    weighed = "" if summary.weighed is None else f", {summary.weighed.bubble_fraction:.1%} by the first step's FLOPs"
    bubble = f"bubble {timeline.bubble_fraction:.1%} of all ranks' time{weighed}"
    return f"{bubble}; microbatches in flight at most: {flights}"
