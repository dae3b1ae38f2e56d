"""Bytes per rank at its peak as SVG: stacked bars, one for each range of ranks with equal memory."""

from counterpoint.plan.layout import format_ranks
from counterpoint.report.axis import linear_ticks
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.palette import LINE, MEMORY
from counterpoint.report.summary import Summary
from counterpoint.report.words import bytes_text
from counterpoint.simulate.memory import RankMemory

WIDTH, LEFT, RIGHT, TOP, BOTTOM, PITCH = 1000.0, 74, 84, 26, 22, 26
KINDS = ("parameters", "gradients", "optimizer state", "gathered parameters", "activations", "working", "allocator")


def memory_svg(summary: Summary) -> str:
    """A bar per group of ranks, with parts in the order of `KINDS`, followed by the sum of all tensors."""
    groups = summary.same_memory
    largest = max(sum(_parts(used)) for used in summary.memory.values()) or 1
    unit = 1024 ** max(power for power in range(5) if power == 0 or 1024**power <= largest)
    ticks = [tick for tick in linear_ticks(0, largest / unit, 6) if tick * unit <= largest]
    scale = (WIDTH - LEFT - RIGHT) / largest
    bottom = TOP + PITCH * len(groups)
    drawn = _legend()
    for tick in ticks:
        x = LEFT + tick * unit * scale
        drawn.append(tag("line", x1=x, x2=x, y1=TOP - 4, y2=bottom, stroke=LINE))
        drawn.append(label(x, bottom + 14, bytes_text(tick * unit), class_="muted middle"))
    for number, ranks in enumerate(groups):
        drawn += _bar(format_ranks(ranks), summary.memory[ranks[0]], TOP + number * PITCH, scale)
    return drawing(WIDTH, bottom + BOTTOM, *drawn, description="memory per rank")


def _bar(name: str, used: RankMemory, y: float, scale: float) -> list[str]:
    drawn, x = [label(LEFT - 8, y + 15, name, class_="right")], float(LEFT)
    for kind, colour, count in zip(KINDS, MEMORY, _parts(used)):
        tip = title(f"{kind}: {bytes_text(count)}")
        width = count * scale
        drawn.append(tag("g", tag("rect", x=x, y=y, width=width, height=PITCH - 6, fill=colour), tip))
        x += width
    return [*drawn, label(x + 8, y + 15, bytes_text(used.total_bytes), class_="muted")]


def _parts(used: RankMemory) -> tuple[int, ...]:
    return (
        used.parameter_bytes, used.gradient_bytes, used.optimizer_bytes, used.gathered_bytes, used.activation_bytes,
        used.working_bytes, used.allocator_bytes,
    )  # fmt: skip


def _legend() -> list[str]:
    drawn, x = [label(LEFT - 8, 13, "rank", class_="muted right")], float(LEFT)
    for kind, colour in zip(KINDS, MEMORY):
        drawn.append(tag("rect", x=x, y=3, width=12, height=12, rx=3, fill=colour))
        drawn.append(label(x + 17, 13, kind))
        x += 17 + 6.4 * len(kind) + 18
    return drawn
