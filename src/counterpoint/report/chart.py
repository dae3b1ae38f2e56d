"""Line charts of recorded metrics, as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.report.axis import TINY, linear_ticks, log_ticks
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.palette import LINE, MUTED
from counterpoint.report.words import count_text, number_text

LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 40
HUGE = 1e200
"""Larger values are left out, like those that are not finite, since ranges would overflow."""
MOST_POINTS = 800
"""A line with more points shows every n-th one, and the last."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `marked` draws its points, `dashed` keeps a line below it visible."""

    name: str
    colour: str
    points: tuple[Point, ...]
    marked: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values to pixels along one axis."""

    ticks: list[float]
    start: float
    length: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._mapped(number) for number in (self.ticks[0], self.ticks[-1], value))
        return self.start + self.length * (value - low) / (high - low)

    def _mapped(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def chart(
    lines: Sequence[Line], x_name: str, y_name: str, width: float = 1000, height: float = 300, log: bool = False
) -> str:
    """Lines over common axes that begin at zero, or on a log scale; points that are not finite are left out.

    Returns an empty string if no point remains.
    """
    kept = [_cleaned(line, log) for line in lines]
    points = [point for line in kept for point in line.points]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_ticks = log_ticks(min(ys), max(ys)) if log else linear_ticks(min(0.0, *ys), max(ys))
    across = _Scale(linear_ticks(min(0.0, *xs), max(xs), 7), LEFT, width - LEFT - RIGHT)
    up = _Scale(y_ticks, height - BOTTOM, TOP + BOTTOM - height, log)
    return drawing(
        width, height, *_grid(across, up, width, height), *_names(x_name, y_name, width, height),
        *_legend(kept, width), *(_line(line, across, up) for line in kept), description=f"{y_name} over {x_name}",
    )  # fmt: skip


def _cleaned(line: Line, log: bool) -> Line:
    points = [(x, y) for x, y in line.points if abs(y) < HUGE and (y > TINY or not log)]
    stride = -(-len(points) // MOST_POINTS)
    thinned = points[::stride] if stride > 1 else points
    if points and thinned[-1] != points[-1]:
        thinned = [*thinned, points[-1]]
    return Line(line.name, line.colour, tuple(thinned), line.marked, line.dashed)


def _grid(across: _Scale, up: _Scale, width: float, height: float) -> list[str]:
    drawn = []
    for tick in up.ticks:
        y = up(tick)
        drawn.append(tag("line", x1=LEFT, x2=width - RIGHT, y1=y, y2=y, stroke=LINE))
        drawn.append(label(LEFT - 8, y + 4, _tick_text(tick), class_="muted right"))
    for tick in across.ticks:
        x = across(tick)
        drawn.append(tag("line", x1=x, x2=x, y1=height - BOTTOM, y2=height - BOTTOM + 4, stroke=MUTED))
        drawn.append(label(x, height - BOTTOM + 17, _tick_text(tick), class_="muted middle"))
    return drawn


def _tick_text(value: float) -> str:
    return count_text(value) if abs(value) >= 1e4 else number_text(round(value, 12))


def _names(x_name: str, y_name: str, width: float, height: float) -> list[str]:
    return [
        label(width - RIGHT, height - 6, x_name, class_="muted right"),
        label(2, 14, y_name, class_="muted"),
    ]


def _legend(lines: Sequence[Line], width: float) -> list[str]:
    """Names of lines with their last values, right-aligned."""
    drawn, x = [], width - RIGHT
    for line in reversed([line for line in lines if line.points]):
        text = f"{line.name} {number_text(line.points[-1][1])}"
        drawn.append(label(x, 14, text, class_="right"))
        x -= 6.3 * len(text) + 6
        drawn.append(tag("line", x1=x - 16, x2=x, y1=10, y2=10, **_stroke(line)))
        x -= 34
    return drawn


def _line(line: Line, across: _Scale, up: _Scale) -> str:
    places = [(across(x), up(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [
        tag("g", tag("circle", cx=x, cy=y, r=3, fill=line.colour), title(f"{line.name}: {_point_text(point)}"))
        for point, (x, y) in zip(line.points, places)
        if line.marked or len(places) == 1
    ]
    return tag("polyline", points=path, fill="none", stroke_linejoin="round", **_stroke(line)) + "".join(dots)


def _point_text(point: Point) -> str:
    return f"{number_text(point[1])} at {number_text(point[0])}"


def _stroke(line: Line) -> dict[str, str | float]:
    dashes: dict[str, str | float] = {"stroke_dasharray": "7 6"} if line.dashed else {}
    return {"stroke": line.colour, "stroke_width": 1.7, **dashes}
