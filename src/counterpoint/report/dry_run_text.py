"""A dry run of a rank, for the terminal and as data."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from counterpoint.report.terminal import new_table, title
from counterpoint.report.words import bytes_text, count_text
from counterpoint.setup.dry_run import DryRun

_SHOWN = 12
"""Actions that are shown of the beginning of a program, and of its end."""

_MOST_LISTED = 4
"""Ranks, or ranges of ranks, that a group's name lists."""


def dry_run_text(run: DryRun) -> RenderableType:
    """What the rank keeps, its groups and peers, and its program in short."""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(run.actions.items()))
    detail = f"{len(run.program)} actions: {counts}"
    linked: list[RenderableType] = [title("Peers"), _peers(run)] if run.peers else []
    return Group(
        title(f"Rank {run.rank} of {run.world_size}", "built without memory, in a world that is not there"),
        _memory(run),
        title("Groups", f"{len(run.groups)} of this rank, {run.created:,} of the world"), _groups(run),
        *linked,
        title("Program", detail), _short(run.program),
        "Not proved here: counterpoint plan without --dry-run does that.",
    )  # fmt: skip


def dry_run_json(run: DryRun) -> dict[str, Any]:
    """The same with exact bytes and the whole program."""
    return asdict(run) | {"bytes": run.total}


def _memory(run: DryRun) -> Table:
    """Bytes by kind, a column for each stage, and how many they are exactly."""
    stages = [one.stage for one in run.stages]
    table = new_table("", *stages, "bytes", right=(*stages, "bytes"))
    table.add_row("elements", *(count_text(one.elements) for one in run.stages), "")
    for kind in ("parameters", "copies", "buffers", "gradients", "optimizer"):
        counts = [getattr(one, kind) for one in run.stages]
        table.add_row(kind, *map(bytes_text, counts), f"{sum(counts):,}")
    table.add_row("sum", *(bytes_text(one.total) for one in run.stages), f"{run.total:,}")
    return table


def _groups(run: DryRun) -> Table:
    table = new_table("group", "carries", "ranks", right=("ranks",))
    for group in run.groups:
        table.add_row(_shortened(group.name), group.carries, f"{group.ranks:,}")
    return table


def _shortened(name: str) -> str:
    """A communicator's name with only the first two and the last of many ranks."""
    before, opened, rest = name.partition("[")
    listed, closed, after = rest.partition("]")
    ranks = listed.split(",")
    if len(ranks) <= _MOST_LISTED:
        return name
    return f"{before}{opened}{','.join((*ranks[:2], '...', ranks[-1]))}{closed}{after}"


def _peers(run: DryRun) -> Table:
    table = new_table("link", "direction", "sends to", "receives from", right=("sends to", "receives from"))
    for one in run.peers:
        table.add_row(one.link, one.direction, f"{one.receivers} ranks", f"{one.senders} ranks")
    return table


def _short(program: tuple[str, ...]) -> str:
    if len(program) <= 2 * _SHOWN:
        return "  ".join(program)
    left_out = f"... {len(program) - 2 * _SHOWN} more ..."
    return "  ".join((*program[:_SHOWN], left_out, *program[-_SHOWN:]))
