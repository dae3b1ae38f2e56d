"""The HTML page of a plan: placement, proof, timeline, memory, and the routes of a batch's rows."""

from counterpoint.check.grid import format_programs
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.report.estimate_html import estimate_section
from counterpoint.report.gantt import Bar, Row, gantt
from counterpoint.report.markup import tag, words
from counterpoint.report.memory_svg import memory_svg
from counterpoint.report.page import cards, folded, named_module, page, section, table
from counterpoint.report.palette import module_colours
from counterpoint.report.placement_svg import placement_svg
from counterpoint.report.routes_svg import route_svg
from counterpoint.report.summary import Summary, summarize
from counterpoint.report.terminal import memory_words
from counterpoint.report.words import bytes_text, coordinate_ranges, count_text, part_words, stage_parameters
from counterpoint.simulate.estimate import Estimate

CLOCK_UNIT = "units of one forward; a backward takes two"


def plan_html(plan: Plan, batch: BatchPlan | None = None, estimated: Estimate | None = None) -> str:
    """The page of a plan; a batch adds routes and activation memory, an estimate its timeline. Raises ProofError."""
    summary = summarize(plan, batch)
    modules = " and ".join(str(layout) for layout in plan.placement.layouts)
    return page(
        "Plan",
        f"{modules}; {plan.kind} over {plan.microbatches} microbatches, proved before anything runs.",
        _figures(summary),
        placement_section(plan),
        _proof(summary),
        section(
            "Timeline",
            f"The actions of each rank over time, at unit costs. Idle time is "
            f"{summary.timeline.bubble_fraction:.1%} of all ranks' time; transfers take none here.",
            predicted_gantt(summary),
            folded("Programs: the actions of every rank in order", format_programs(plan.schedule.programs)),
        ),
        *([] if estimated is None else [estimate_section(plan, estimated)]),
        _memory(summary),
        *([] if batch is None else [_routes(plan, batch)]),
        _links(summary),
    )


def predicted_gantt(summary: Summary) -> str:
    """The simulated timeline, with one row for all ranks that have the same."""
    intervals = summary.timeline.intervals
    rows = [
        Row(format_ranks(ranks), tuple(Bar(each.action, each.start, each.end) for each in intervals[ranks[0]]))
        for ranks in summary.same_programs
    ]
    return gantt(rows, module_colours(summary.plan.graph.modules), CLOCK_UNIT)


def placement_section(plan: Plan) -> str:
    """The placement on ranks, and the parts of every stage."""
    colours = module_colours(plan.graph.modules)
    rows = [
        (
            named_module(str(node), colours[node.module]),
            words(format_ranks(plan.stages.ranks[node])),
            words(coordinate_ranges(plan.layouts[node.module], plan.stages.ranks[node])),
            words(part_words(plan, node)),
            words(count_text(stage_parameters(plan, node))),
        )
        for node in plan.stages.nodes
    ]
    return section(
        "Placement",
        f"The modules of each rank: {plan.placement.kind}, {plan.placement.world_size} ranks. A cell shows the rank's "
        "coordinates along the module's axes.",
        placement_svg(plan),
        table(("stage", "ranks", "coordinates", "parts", "parameters"), rows, right=("parameters",)),
    )


def _figures(summary: Summary) -> str:
    facts = summary.plan.facts
    return cards(
        [
            (str(summary.plan.placement.world_size), "ranks"),
            *((count_text(facts[module].parameters), f"parameters of {module}") for module in facts),
            (f"{summary.timeline.bubble_fraction:.1%}", "bubble at unit costs"),
            (bytes_text(max(used.total_bytes for used in summary.memory.values())), "on the fullest rank"),
        ]
    )


def _proof(summary: Summary) -> str:
    proof = summary.proof
    rows = [
        ("actions in all programs", f"{proof.actions}"),
        ("events that they expand to, collectives included", f"{proof.events}"),
        ("operations posted", f"{proof.posts} on {proof.communicators} communicators"),
        ("cycles over all queues", "none"),
        ("rows delivered once each", f"{proof.rows}" if proof.rows else "no batch was given"),
        ("receives posted ahead, at most", f"{proof.receives_ahead}"),
        *((f"microbatches in flight at {node}, at most", f"{n}") for node, n in sorted(proof.in_flight.items())),
    ]
    shown = [(words(name), words(value)) for name, value in rows]
    return section(
        "Proof",
        "Every send meets its receive, and no order of events can deadlock: each rank's queue on each communicator "
        "holds all that is issued there.",
        tag("div", table(("what", "found"), shown, right=("found",)), class_="narrow"),
    )


def _memory(summary: Summary) -> str:
    return section("Memory", f"Bytes per rank at its peak. {memory_words(summary)}", memory_svg(summary))


def _routes(plan: Plan, batch: BatchPlan) -> str:
    edges = [link for link in plan.stages.links if not link.is_hop]
    if not edges:
        return ""
    documents = f"{len(batch.documents)} documents, {batch.loss_tokens} loss tokens"
    return section(
        "Routes",
        f"Where the rows of step {batch.step} travel ({documents}): every row has one owner on each side. "
        "Grey rows stay on their rank. Gradients take the reverse routes.",
        *(tag("div", tag("h3", words(str(link))), route_svg(plan, batch, link)) for link in edges),
    )


def _links(summary: Summary) -> str:
    ranks = summary.plan.stages.ranks
    rows = [
        (
            words(str(entry.link)),
            words(f"{entry.columns} {summary.plan.dtype}"),
            words(format_ranks(ranks[entry.link.source])),
            words(format_ranks(ranks[entry.link.target])),
            words(entry.carriers),
        )
        for entry in summary.links
    ]
    if not rows:
        return ""
    headers = ("link", "rows of", "from ranks", "to ranks", "communicators")
    return section("Links", "Stages that exchange rows, and the communicators that carry them.", table(headers, rows))
