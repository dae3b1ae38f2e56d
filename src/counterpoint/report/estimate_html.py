"""An estimate on a page: its figures, the timeline in milliseconds, and where each role's time goes."""

from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.report.estimate_text import sentences
from counterpoint.report.gantt import Bar, Row, gantt
from counterpoint.report.markup import tag, words
from counterpoint.report.page import section, table
from counterpoint.report.palette import module_colours
from counterpoint.report.words import bytes_text, number_text, seconds_text
from counterpoint.simulate.estimate import Estimate

MILLISECONDS = 1e3


def estimate_section(plan: Plan, found: Estimate) -> str:
    """The section of an estimate."""
    return section(
        "Estimate",
        f"On {found.hardware}, whose figures are {found.source}. {' '.join(sentences(found))}",
        tag("h3", words(f"The first step, {seconds_text(found.timeline.seconds)}")),
        estimate_gantt(plan, found),
        tag("h3", "Where a step goes"),
        _breakdowns(found),
    )


def estimate_gantt(plan: Plan, found: Estimate, *, by_rank: bool = False) -> str:
    """The timeline in milliseconds, with one row for all ranks that do the same, or one `by_rank`."""
    groups = sorted((rank,) for ranks in found.timeline.same for rank in ranks) if by_rank else found.timeline.same
    role = {rank: ranks[0] for ranks in found.timeline.same for rank in ranks}
    rows = [
        Row(
            format_ranks(ranks),
            tuple(
                Bar(one.action, one.start * MILLISECONDS, one.end * MILLISECONDS)
                for one in found.timeline.computes[role[ranks[0]]]
            ),
        )
        for ranks in groups
    ]
    return gantt(rows, module_colours(plan.graph.modules), "milliseconds")


def _breakdowns(found: Estimate) -> str:
    modules = list(found.breakdown.computes)
    numbers = (*modules, "communication", "optimizer", "idle", "memory")
    rows = []
    for ranks in found.timeline.same:
        own = found.timeline.breakdowns[ranks[0]]
        seconds = (*(own.computes.get(module, 0.0) for module in modules), own.communication, own.optimizer, own.idle)
        cells = [words(f"{number_text(each * MILLISECONDS)} ms" if each else "") for each in seconds]
        rows.append((words(format_ranks(ranks)), *cells, words(bytes_text(found.memory[ranks[0]].total_bytes))))
    return table(("ranks", *numbers), rows, right=numbers)
