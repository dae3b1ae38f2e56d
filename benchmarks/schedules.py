"""Every schedule on four typical placements, by the unit-cost clock: the tables of docs/schedules.md.

    PYTHONPATH=. python benchmarks/schedules.py [--microbatches 8]

A forward of an undivided stage takes 1 unit, each half of its backward 1 as well; transfers take none.
"""

import argparse
import sys

from tests.asked import asked

from counterpoint.plan.action import Compute, Work
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.placement import Request, place
from counterpoint.plan.plan import Plan, Widths, even_split
from counterpoint.plan.stages import EncoderOrder
from counterpoint.simulate.clock import simulate

LANGUAGE = "language"
COLOCATED = "vision dp4 and language pp4, both on ranks 0-3"
PLACEMENTS: dict[str, tuple[Request, ...]] = {
    "language pp4 alone, on ranks 0-3": (asked(LANGUAGE, ranks=(0, 1, 2, 3), pp=4),),
    "vision dp2 on ranks 0-1, language pp4 on 2-5": (
        asked("vision", ranks=(0, 1), dp_shard=2),
        asked(LANGUAGE, ranks=(2, 3, 4, 5), pp=4),
    ),
    COLOCATED: (
        asked("vision", ranks=(0, 1, 2, 3), dp_shard=4),
        asked(LANGUAGE, ranks=(0, 1, 2, 3), pp=4),
    ),
    "vision dp2 on ranks 0-1, language pp4 tp2 on 0-7": (
        asked("vision", ranks=(0, 1), dp_shard=2),
        asked(LANGUAGE, ranks=tuple(range(8)), pp=4, tp=2),
    ),
    "vision dp4 and language pp4 on ranks 0-3, audio on 4": (
        asked("vision", ranks=(0, 1, 2, 3), dp_shard=4),
        asked("audio", ranks=(4,)),
        asked(LANGUAGE, ranks=(0, 1, 2, 3), pp=4),
    ),
}
SCHEDULES: tuple[tuple[str, int, EncoderOrder], ...] = (
    ("gpipe", 1, "just_in_time"),
    ("1f1b", 1, "first"),
    ("1f1b", 1, "just_in_time"),
    ("1f1b", 1, "fill"),
    ("interleaved", 2, "first"),
    ("interleaved", 2, "just_in_time"),
    ("interleaved", 2, "fill"),
    ("zero_bubble", 1, "first"),
    ("zero_bubble", 1, "just_in_time"),
    ("zero_bubble", 1, "fill"),
    ("zero_bubble", 2, "just_in_time"),
    ("filled", 1, "just_in_time"),
)


HOLDS = {Work.FORWARD: 1, Work.BACKWARD: -1, Work.WEIGHT: -1}
"""What an action of a node that trains changes in the microbatches that it keeps."""
THIRD = 1 / 3
"""What a light encoder's actions cost beside those of the language model's stages."""


def plan_of(
    requests: tuple[Request, ...],
    kind: str,
    chunks: int,
    encoder: EncoderOrder,
    microbatches: int,
    buffer: int | None = None,
) -> Plan:
    """Modules of no particular size, each edge into the language model, whose pipeline has the chunks."""
    divided = tuple(
        (module, layout.model_copy(update={"chunks": chunks}) if module == LANGUAGE else layout)
        for module, layout in requests
    )
    size = 1 + max(rank for _module, layout in requests for rank in layout.ranks or ())
    placement = place(size, divided, partial_overlap=True)
    modules = tuple(layout.module for layout in placement.layouts)
    return Plan(
        placement=placement,
        graph=Graph.build(modules, tuple(Edge(module, LANGUAGE) for module in modules if module != LANGUAGE)),
        facts={},
        rows={layout.module: ModuleRows(layout) for layout in placement.layouts},
        splits={layout.module: even_split(layout.stages, layout.stages) for layout in placement.layouts},
        widths={module: Widths(1, 1) for module in modules},
        kind=kind,
        microbatches=microbatches,
        encoder=encoder,
        buffer=buffer,
    )


def figures(plan: Plan) -> str:
    """Cells of a plan: makespan and bubble at unit costs and with light encoders, and what ranks keep."""

    def light(_rank: int, action: Compute) -> float:
        return plan.stages.cost(action) * (1 if action.node.module == LANGUAGE else THIRD)

    unit, lighter = simulate(plan), simulate(plan, costs=light)
    times = [f"{t.makespan:.3g} | {t.bubble_fraction:.1%}" for t in (unit, lighter)]
    return " | ".join((*times, kept(plan)))


def kept(plan: Plan) -> str:
    """The most microbatches that a rank keeps of each module at once; of an undivided stage, so a chunk counts less."""
    most = dict.fromkeys(plan.layouts, 0)
    for program in plan.schedule.programs.values():
        held = dict.fromkeys(plan.layouts, 0)
        for action in program:
            if isinstance(action, Compute):
                module = action.node.module
                held[module] += HOLDS.get(action.work, 0)
                most[module] = max(most[module], held[module])
    return ", ".join(f"{module} {count / plan.layouts[module].chunks:g}" for module, count in most.items())


HEAD = "makespan | bubble | makespan, encoders a third | bubble | most microbatches kept |"


def schedule_table(requests: tuple[Request, ...], microbatches: int) -> str:
    """Every schedule with every order of encoders on one placement."""
    lines = [f"| schedule | chunks | encoder | {HEAD}", "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |"]
    for kind, chunks, encoder in SCHEDULES:
        if len(requests) > 1 or (encoder == "just_in_time" and kind != "filled"):
            plan = plan_of(requests, kind, chunks, encoder, microbatches)
            named = encoder if len(requests) > 1 and kind != "filled" else "-"
            lines.append(f"| {kind} | {chunks} | {named} | {figures(plan)} |")
    return "\n".join(lines)


def buffer_table(requests: tuple[Request, ...], microbatches: int) -> str:
    """What a bound of the encoder's microbatches costs where it fills gaps."""
    lines = [f"| schedule | buffer | {HEAD}", "| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    for kind in ("1f1b", "zero_bubble"):
        for buffer in (1, 2, 4, 6, 8):
            plan = plan_of(requests, kind, 1, "fill", microbatches, buffer)
            lines.append(f"| {kind} | {buffer} | {figures(plan)} |")
    return "\n".join(lines)


def tables(microbatches: int) -> str:
    """All tables, each under its title."""
    found = [f"**{title}**\n\n{schedule_table(r, microbatches)}" for title, r in PLACEMENTS.items()]
    title = COLOCATED
    found.append(f"**{title}; the encoder fills gaps**\n\n{buffer_table(PLACEMENTS[title], microbatches)}")
    return "\n\n".join(found) + "\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Every schedule on four typical placements, by the unit-cost clock.")
    parser.add_argument("--microbatches", type=int, default=8)
    sys.stdout.write(tables(parser.parse_args().microbatches))


if __name__ == "__main__":
    main()
