"""Timelines as SVG: a row per rank; in a module's colour, light bars are forward, full backward, medium weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from counterpoint.plan.action import Action, Compute, Work
from counterpoint.report.axis import linear_ticks
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.palette import FAINT, INK, LINE, SURFACE, tint
from counterpoint.report.words import number_text

LEFT, RIGHT, TOP, BOTTOM, GAP = 74, 62, 26, 34, 2
SHARES = {Work.FORWARD: 0.42, Work.BACKWARD: 1.0, Work.INPUT: 1.0, Work.WEIGHT: 0.7}
"""Saturation of a module's colour by the work of an action."""

_WORDS = {
    Work.FORWARD: "forward", Work.BACKWARD: "backward", Work.INPUT: "input gradients", Work.WEIGHT: "weight gradients",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """An action of a rank from `start` to `end`, in the chart's unit."""

    action: Action
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Row:
    """The bars of one rank, or of several ranks with the same timeline."""

    name: str
    bars: tuple[Bar, ...]

    def idle(self, span: float) -> float:
        """The share of `span` without a compute action."""
        busy = sum(bar.end - bar.start for bar in self.bars if isinstance(bar.action, Compute))
        return 1.0 - busy / span if span else 0.0


def gantt(rows: Sequence[Row], colours: Mapping[str, str], unit: str, width: float = 1000) -> str:
    """Rows over a common time axis from zero; each ends in its idle share of the time until the last bar's end."""
    span = max((bar.end for row in rows for bar in row.bars), default=0.0)
    pitch = 26 if len(rows) <= 16 else 16
    bottom = TOP + pitch * len(rows)
    scale = (width - LEFT - RIGHT) / (span or 1.0)
    drawn = [*_legend(rows, colours), *_axis(span, scale, bottom, unit, width)]
    for number, row in enumerate(rows):
        y = TOP + number * pitch
        drawn.append(tag("rect", x=LEFT, y=y, width=width - LEFT - RIGHT, height=pitch - GAP, fill=SURFACE))
        drawn.append(label(LEFT - 8, y + pitch / 2 + 3, row.name, class_="right"))
        drawn.append(label(width - 2, y + pitch / 2 + 3, f"{row.idle(span):.0%} idle", class_="muted right"))
        drawn += [_bar(bar, y, pitch - GAP, scale, colours) for bar in row.bars]
    return drawing(width, bottom + BOTTOM, *drawn, description=f"timeline of {len(rows)} rows in {unit}")


def _bar(bar: Bar, y: float, height: float, scale: float, colours: Mapping[str, str]) -> str:
    x, width = LEFT + bar.start * scale, max((bar.end - bar.start) * scale, 0.5)
    fill, ink, text = FAINT, INK, ""
    if isinstance(bar.action, Compute):
        work = bar.action.work
        colour = colours.get(bar.action.node.module, FAINT)
        fill, ink = tint(colour, SHARES[work]), INK if work is Work.FORWARD else "#ffffff"
        text = f"{work}{bar.action.microbatch}"
    tip = title(f"{bar.action}: {number_text(bar.start)} to {number_text(bar.end)}")
    shape = tag("rect", x=x, y=y, width=width, height=height, rx=2, fill=fill, stroke="#ffffff", stroke_width=0.5)
    fits = text and width >= 7 * len(text) + 2 and height >= 12
    inside = label(x + width / 2, y + height / 2 + 4, text, class_="middle", style=f"fill:{ink}") if fits else ""
    return tag("g", shape, inside, tip)


def _axis(span: float, scale: float, bottom: float, unit: str, width: float) -> list[str]:
    drawn = []
    for tick in linear_ticks(0.0, span, 8):
        if tick > span * 1.001:
            continue
        x = LEFT + tick * scale
        drawn.append(tag("line", x1=x, x2=x, y1=TOP - 4, y2=bottom, stroke=LINE))
        drawn.append(label(x, bottom + 13, number_text(round(tick, 12)), class_="muted middle"))
    return [*drawn, label(width - RIGHT, bottom + 29, unit, class_="muted right")]


def _legend(rows: Sequence[Row], colours: Mapping[str, str]) -> list[str]:
    actions = [bar.action for row in rows for bar in row.bars]
    shown = {(action.node.module, action.work) for action in actions if isinstance(action, Compute)}
    entries = [
        (tint(colour, SHARES[work]), f"{module} {_WORDS[work]}")
        for module, colour in colours.items()
        for work in Work
        if (module, work) in shown
    ]
    if any(not isinstance(action, Compute) for action in actions):
        entries.append((FAINT, "other"))
    drawn, x = [label(LEFT - 8, 13, "rank", class_="muted right")], float(LEFT)
    for colour, text in entries:
        drawn.append(tag("rect", x=x, y=3, width=12, height=12, rx=3, fill=colour))
        drawn.append(label(x + 17, 13, text))
        x += 17 + 6.4 * len(text) + 18
    return drawn
