"""The placement as SVG: a column per rank, a row per module, bands of sixteen ranks."""

from counterpoint.plan.plan import Plan
from counterpoint.report.markup import drawing, label, tag, title
from counterpoint.report.palette import LINE, MUTED, SURFACE, module_colours, tint
from counterpoint.report.words import coordinate_words, part_words

BAND, WIDTH, LEFT, HEAD, CELL, GAP = 16, 1000.0, 86.0, 20, 50, 3
MOST_CELL_WIDTH = 120.0
FILL_SHARE = 0.24


def placement_svg(plan: Plan) -> str:
    """The grid of all ranks; a cell shows the coordinates of its rank along the axes in use."""
    world = plan.placement.world_size
    columns = min(world, BAND)
    width = min(MOST_CELL_WIDTH, (WIDTH - LEFT) / columns)
    pitch = HEAD + CELL * len(plan.graph.modules) + 12
    bands = -(-world // BAND)
    drawn = [part for band in range(bands) for part in _band(plan, band, band * pitch, width)]
    return drawing(LEFT + columns * width, bands * pitch, *drawn, description="placement of modules on ranks")


def _band(plan: Plan, band: int, top: float, width: float) -> list[str]:
    ranks = range(band * BAND, min((band + 1) * BAND, plan.placement.world_size))
    colours = module_colours(plan.graph.modules)
    drawn = [label(0, top + 13, "rank", class_="muted")]
    for number, rank in enumerate(ranks):
        drawn.append(label(LEFT + (number + 0.5) * width, top + 13, str(rank), class_="muted middle"))
    for row, module in enumerate(plan.graph.modules):
        y = top + HEAD + row * CELL
        drawn.append(label(0, y + CELL / 2 + 3, module, style=f"fill:{colours[module]};font-weight:600"))
        for number, rank in enumerate(ranks):
            drawn.append(_cell(plan, module, rank, LEFT + number * width, y, width, colours[module]))
    return drawn


def _cell(plan: Plan, module: str, rank: int, x: float, y: float, width: float, colour: str) -> str:
    place = {"x": x, "y": y, "width": width - GAP, "height": CELL - GAP, "rx": 5}
    layout = plan.layouts[module]
    if rank not in layout.ranks:
        empty = tag("rect", fill=SURFACE, stroke=LINE, **place)
        idle = label(x + (width - GAP) / 2, y + CELL / 2 + 2, "idle", class_="small middle", fill=MUTED)
        return empty + (idle if rank in plan.placement.idle else "")
    words = coordinate_words(layout, rank)
    node = next(node for node in plan.nodes_of(rank) if node.module == module)
    first = y + CELL / 2 + 3 - 6.5 * (len(words) - 1)
    lines = [
        label(x + (width - GAP) / 2, first + 13 * number, word, class_="middle") for number, word in enumerate(words)
    ]
    tip = title(f"rank {rank}: {node}, {' '.join(words)}: {part_words(plan, node)}")
    return tag("g", tag("rect", fill=tint(colour, FILL_SHARE), stroke=colour, **place), *lines, tip)
