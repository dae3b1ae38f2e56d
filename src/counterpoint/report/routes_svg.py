"""The routes of a batch's rows from module to module, as SVG."""

from collections import Counter

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Link
from counterpoint.plan.plan import Plan
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.palette import FAINT, MUTED, module_colours, tint

WIDTH, SIDE, TOP = 640.0, 150.0, 26
NODE_WIDTH, THICKEST = 10, 16.0


def routed_rows(plan: Plan, batch: BatchPlan, link: Link) -> dict[tuple[int, int], int]:
    """Rows per (source rank, target rank) over all microbatches of a batch."""
    rows: Counter[tuple[int, int]] = Counter()
    for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
        for copy in plan.route(batch, link, exchange).copies:
            rows[copy.source_rank, copy.target_rank] += copy.rows
    return dict(rows)


def route_svg(plan: Plan, batch: BatchPlan, link: Link) -> str:
    """Ribbons from source ranks (left) to target ranks (right), as thick as their rows; grey stays on its rank."""
    rows = routed_rows(plan, batch, link)
    sources, targets = plan.stages.ranks[link.source], plan.stages.ranks[link.target]
    most = max(len(sources), len(targets))
    pitch = max(14.0, min(46.0, 560.0 / most))
    left = {rank: TOP + pitch * (i + 0.5) * most / len(sources) for i, rank in enumerate(sources)}
    right = {rank: TOP + pitch * (i + 0.5) * most / len(targets) for i, rank in enumerate(targets)}
    colours = module_colours(plan.graph.modules)
    thickest = min(THICKEST, pitch * 0.6)
    scale = thickest / max(rows.values(), default=1)
    drawn = []
    for (source, target), count in sorted(rows.items()):
        colour = FAINT if source == target else tint(colours[link.source.module], 0.6)
        drawn.append(_ribbon(left[source], right[target], max(count * scale, 0.6), colour,
                             f"rank {source} to rank {target}: {count} rows"))  # fmt: skip
    sent, received = _sums(rows, 0), _sums(rows, 1)
    for rank, y in left.items():
        text = f"rank {rank}: {sent[rank]} rows"
        drawn += [_end(SIDE - NODE_WIDTH, y, colours[link.source.module]),
                  label(SIDE - NODE_WIDTH - 8, y + 4, text, class_="right")]  # fmt: skip
    for rank, y in right.items():
        text = f"rank {rank}: {received[rank]} rows"
        drawn += [_end(WIDTH - SIDE, y, colours[link.target.module]),
                  label(WIDTH - SIDE + NODE_WIDTH + 8, y + 4, text)]  # fmt: skip
    heads = [
        label(SIDE, 12, str(link.source), class_="right", fill=MUTED),
        label(WIDTH - SIDE, 12, str(link.target), fill=MUTED),
    ]
    return drawing(WIDTH, TOP + pitch * most, *heads, *drawn, description=f"rows of {link} by rank")


def _sums(rows: dict[tuple[int, int], int], end: int) -> Counter[int]:
    sums: Counter[int] = Counter()
    for pair, count in rows.items():
        sums[pair[end]] += count
    return sums


def _end(x: float, y: float, colour: str) -> str:
    return tag("rect", x=x, y=y - 6, width=NODE_WIDTH, height=12, rx=3, fill=colour)


def _ribbon(left: float, right: float, width: float, colour: str, tip: str) -> str:
    start, end = SIDE, WIDTH - SIDE
    bend = (start + end) / 2
    path = f"M{start:.1f} {left:.1f} C{bend:.1f} {left:.1f} {bend:.1f} {right:.1f} {end:.1f} {right:.1f}"
    line = tag("path", d=path, fill="none", stroke=colour, stroke_width=width, stroke_opacity=0.8)
    return tag("g", line, title(tip))
