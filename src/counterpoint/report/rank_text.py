"""One rank's part of a plan for the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table

from counterpoint.check.grid import format_programs
from counterpoint.plan.action import Direction
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.report.summary import Summary
from counterpoint.report.terminal import memory_note, memory_table, new_table, title
from counterpoint.report.words import coordinate_words, count_text, part_words, stage_parameters


def rank_text(summary: Summary, rank: int) -> RenderableType:
    """A rank's stages, groups, peers on every link, program and memory."""
    plan = summary.plan
    if rank in plan.placement.idle:
        return f"rank {rank} is idle: world.idle lists it, so it waits for the others' end"
    program = format_programs({rank: plan.schedule.programs[rank]}).partition("|")[2].split()
    peers = _peers(plan, rank)
    linked: list[RenderableType] = [title("Peers"), peers] if peers.rows else []
    return Group(
        title(f"Rank {rank} of {plan.placement.world_size}"), _stages(plan, rank),
        title("Groups"), _groups(plan, rank),
        *linked,
        title("Program", f"{plan.kind}, {plan.microbatches} microbatches"), "  ".join(program),
        f"idle {summary.timeline.bubble(rank):.1%} of a step at unit costs",
        title("Memory"), memory_table(summary, ((rank,),)), memory_note(summary),
    )  # fmt: skip


def _stages(plan: Plan, rank: int) -> RenderableType:
    table = new_table("stage", "coordinates", "parts", "parameters", right=("parameters",))
    for node in plan.nodes_of(rank):
        place = " ".join(coordinate_words(plan.layouts[node.module], rank))
        table.add_row(str(node), place, part_words(plan, node), count_text(stage_parameters(plan, node)))
    return table


def _groups(plan: Plan, rank: int) -> RenderableType:
    table = new_table("communicator", "carries", "ranks")
    for communicator in plan.communicators:
        if rank in communicator.ranks:
            carries = "transfers" if communicator.is_transfer else "collectives"
            table.add_row(communicator.name, carries, format_ranks(communicator.ranks))
    return table


def _peers(plan: Plan, rank: int) -> Table:
    table = new_table("link", "direction", "sends to", "receives from")
    for link in plan.stages.links:
        for way in Direction:
            pairs = plan.pairs(link, way)
            targets = tuple(sorted(b for a, b in pairs if a == rank))
            sources = tuple(sorted(a for a, b in pairs if b == rank))
            if targets or sources:
                table.add_row(str(link), way.name.lower(), format_ranks(targets), format_ranks(sources))
    return table
