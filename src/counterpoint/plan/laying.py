"""Where documents and items lie in the rows of their lane."""

import heapq
from collections.abc import Sequence

from counterpoint.plan.batch import DOCUMENT, ModuleRows, Share, Span, Unit
from counterpoint.plan.deal_items import costliest_first
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
    items = [documents[d].items[i] for d, i in units]
    extents = module.extents(items)
    pieces = _deal_pieces(extents, module.layout.cp)
    multiple = module.layout.lane_size // len(pieces)
    size = _padded(max(sum(extents[number] for number in piece) for piece in pieces), multiple)
    left = _padded(max(map(len, pieces)) * module.queries, multiple) if module.queries else size
    spans, lead = [], module.lead
    for place, piece in enumerate(pieces):
        row, row_out = place * size, place * left
        for number in piece:
            d, i = units[number]
            first = row + lead
            out = row_out if module.queries else first
            spans.append(Span(d, i, first * module.merge, module.rows_in(items[number]), out, items[number].rows))
            row, row_out = row + extents[number], row_out + module.queries
    return Share(tuple(spans), len(pieces) * size * module.merge, len(pieces) * left)


def _deal_pieces(rows: Sequence[int], cp: int) -> list[list[int]]:
    """Deal items of so many `rows` to cp ranks, the largest first to the emptiest; all go into one piece, to be cut, if
    one exceeds a share."""
    if cp == 1 or max(rows, default=0) * cp > sum(rows):
        return [list(range(len(rows)))]
    pieces: list[list[int]] = [[] for _ in range(cp)]
    # A load and its piece are one number, as in `deal_items`.
    loads = list(range(cp))
    for item in costliest_first(rows):
        load = loads[0]
        heapq.heapreplace(loads, load + rows[item] * cp)
        pieces[load % cp].append(item)
    return [sorted(piece) for piece in pieces]


def _padded(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple
