"""Where documents and items lie in the rows of their lane."""

import heapq
from collections.abc import Sequence

from counterpoint.plan.batch import DOCUMENT, ModuleRows, Share, Span, Unit
from counterpoint.plan.samples import Document


def lay_documents(units: Sequence[Unit], documents: Sequence[Document], module: ModuleRows) -> Share:
    """Lay whole documents end to end."""
    spans, row = [], 0
    for d, _document in units:
        tokens = documents[d].tokens
        spans.append(Span(d, DOCUMENT, row, tokens, row, tokens))
        row += tokens
    padded = _padded(row, module.layout.lane_size)
    return Share(tuple(spans), padded, padded)


def lay_items(units: Sequence[Unit], documents: Sequence[Document], module: ModuleRows) -> Share:
    """Lay whole items into the equal pieces of the lane's cp ranks, or end to end if one item exceeds a piece.

    Queries leave in the piece of their item, with nothing before or between them.
    """
    extents = {(d, i): module.extent(documents[d].items[i]) for d, i in units}
    pieces = _deal_pieces(units, extents, module.layout.cp)
    multiple = module.layout.lane_size // len(pieces)
    size = _padded(max(sum(extents[unit] for unit in piece) for piece in pieces), multiple)
    left = _padded(max(map(len, pieces)) * module.queries, multiple) if module.queries else size
    spans = []
    for number, piece in enumerate(pieces):
        row, row_out = number * size, number * left
        for d, i in piece:
            item = documents[d].items[i]
            first = row + module.lead
            out = row_out if module.queries else first
            spans.append(Span(d, i, first * module.merge, module.rows_in(item), out, item.rows))
            row, row_out = row + extents[d, i], row_out + module.queries
    return Share(tuple(spans), len(pieces) * size * module.merge, len(pieces) * left)


def _deal_pieces(units: Sequence[Unit], rows: dict[Unit, int], cp: int) -> list[list[Unit]]:
    """Deal items by their `rows` to cp ranks, the largest first to the emptiest; all go into one piece, to be cut, if
    one exceeds a share."""
    if cp == 1 or max(rows.values(), default=0) * cp > sum(rows.values()):
        return [list(units)]
    pieces: list[list[Unit]] = [[] for _ in range(cp)]
    loads = [(0, piece) for piece in range(cp)]
    for unit in sorted(units, key=lambda unit: (-rows[unit], unit)):
        load, piece = loads[0]
        heapq.heapreplace(loads, (load + rows[unit], piece))
        pieces[piece].append(unit)
    return [sorted(piece) for piece in pieces]


def _padded(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple
