"""The load of experts by layer, over the steps of a run."""

from collections.abc import Sequence

from counterpoint.report.chart import Line, chart
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.page import section
from counterpoint.report.palette import ACCENTS, MUTED, tint
from counterpoint.report.run_record import Metrics, StepRecord
from counterpoint.report.words import number_text

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 1000.0, 190.0, 190.0, 8, 18, 26
MOST_COLUMNS = 120
"""If there are more logged steps, every n-th one is shown, and the last."""

_COLOUR, _LEAST_SHARE = ACCENTS[1], 0.06


def expert_section(metrics: Metrics | None) -> str:
    """The curve and the heat map of expert load; empty for a run without experts."""
    steps = [] if metrics is None else [record for record in metrics.steps if record.loads]
    if not steps:
        return ""
    return section(
        "Expert load",
        "Rows of the most loaded expert divided by the mean of its layer; 1 is even. The curves show the most and the "
        "least uneven layer. The heat map has a row for each layer and a column for each step; beside it are the least "
        "and most loaded expert of the last step.",
        _curve(steps),
        _heat(_thinned(steps)),
    )


def _curve(steps: Sequence[StepRecord]) -> str:
    lines = [
        Line(name, colour, tuple((float(r.step), pick(load.most for load in r.loads.values())) for r in steps))
        for name, colour, pick in (("most uneven layer", _COLOUR, max), ("least uneven layer", ACCENTS[0], min))
    ]
    return chart(lines, "step", "most over mean", height=220)


def _thinned(steps: list[StepRecord]) -> list[StepRecord]:
    thinned = steps[:: -(-len(steps) // MOST_COLUMNS)]
    return thinned if thinned[-1] is steps[-1] else [*thinned, steps[-1]]


def _heat(steps: Sequence[StepRecord]) -> str:
    """A heat map with a row for each layer and a column for each step; darker is more uneven."""
    last = steps[-1]
    highest = max(load.most for record in steps for load in record.loads.values())
    width = (WIDTH - LEFT - RIGHT) / len(steps)
    drawn = []
    for row, (layer, load) in enumerate(last.loads.items()):
        y = TOP + row * ROW
        drawn.append(label(LEFT - 8, y + 13, layer.removesuffix(".moe"), class_="right"))
        for column, record in enumerate(steps):
            if layer in record.loads:
                most = record.loads[layer].most
                box = tag("rect", x=LEFT + column * width, y=y, width=width, height=ROW - 2, fill=_shade(most, highest))
                drawn.append(tag("g", box, title(f"{layer}, step {record.step}: {number_text(most)}")))
        drawn.append(_range(load.least, load.most, highest, y))
    bottom = TOP + ROW * len(last.loads)
    ends = ((LEFT, f"step {steps[0].step}", "muted"), (WIDTH - RIGHT, f"step {last.step}", "muted right"))
    drawn += [label(x, bottom + 16, words, class_=style) for x, words, style in ends]
    return drawing(WIDTH, bottom + BOTTOM, *drawn, description="expert load by layer and step")


def _shade(most: float, highest: float) -> str:
    """The colour of a cell: white for an even load, full colour for the most uneven load of the run."""
    share = (most - 1) / (highest - 1) if highest > 1 else 0.0
    return tint(_COLOUR, _LEAST_SHARE + (1 - _LEAST_SHARE) * min(1.0, max(0.0, share)))


def _range(least: float, most: float, highest: float, y: float) -> str:
    """A bar from the least to the most loaded expert, with a tick at the mean and both numbers."""
    left, scale = WIDTH - RIGHT + 12, 80 / max(highest, 1.0)
    return tag(
        "g",
        tag("rect", x=left + least * scale, y=y + 4, width=max(1.0, (most - least) * scale), height=ROW - 10,
            fill=tint(_COLOUR, 0.6), rx=2),
        tag("line", x1=left + scale, x2=left + scale, y1=y, y2=y + ROW - 2, stroke=MUTED),
        label(left + 90, y + 13, f"{number_text(least)} to {number_text(most)}", class_="muted"),
        title(f"least {number_text(least)}, most {number_text(most)}"),
    )  # fmt: skip
