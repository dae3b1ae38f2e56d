"""Items in a lane: which rows see each other, in the whole lane and in a piece of it."""

from collections.abc import Sequence

import numpy as np
import pytest

from counterpoint.modalities.features.arrays import FeaturePayload
from counterpoint.modalities.lane import Laid, Lane


def _lane(rows: int, items: Sequence[Laid], number: int = 0, pieces: int = 1) -> Lane[FeaturePayload]:
    piece = slice(number * rows // pieces, (number + 1) * rows // pieces)
    return Lane(rows, items, (), piece, piece, pieces)


def test_each_item_is_seen_by_itself_with_the_rows_before_it() -> None:
    items = [Laid(2, 3), Laid(7, 4)]
    assert _lane(12, items).segments().lengths == (3, 4)
    segments = _lane(12, items).segments(prefix=2)
    assert (segments.lengths, segments.rows, segments.own) == ((5, 6), 12, None)


@pytest.mark.parametrize("number", [0, 1])
def test_items_that_lie_whole_in_pieces_are_seen_there(number: int) -> None:
    items = [Laid(1, 2, columns=2), Laid(4, 2), Laid(7, 5)]
    lane = _lane(12, items, number, pieces=2)
    assert lane.inside(prefix=1) == [[Laid(1, 2, columns=2), Laid(4, 2)], [Laid(1, 5)]][number]
    own = lane.segments(prefix=1).own
    assert own is not None
    assert (own.lengths, own.rows) == ([(3, 3), (6,)][number], 6)


@pytest.mark.parametrize(("items", "prefix"), [([Laid(4, 3)], 0), ([Laid(6, 3)], 1)])
def test_an_item_over_a_border_is_seen_by_all_pieces(items: Sequence[Laid], prefix: int) -> None:
    lane = _lane(12, items, pieces=2)
    assert lane.inside(prefix) is None
    assert lane.segments(prefix).own is None


def test_a_lane_without_items_has_pieces_without_any() -> None:
    own = _lane(0, (), pieces=2).segments().own
    assert own is not None
    assert (own.lengths, own.rows) == ((), 0)


def test_whole_items_are_a_lane_of_one_process() -> None:
    payloads = [FeaturePayload(np.ones((rows, 2), dtype=np.float32)) for rows in (3, 1)]
    lane = Lane.whole(payloads, [Laid(1, 3), Laid(5, 1)])
    assert (lane.rows, lane.own_rows, lane.pieces) == (6, 6, 1)
    assert [(own.here, own.there) for own in lane.own] == [(slice(1, 4), slice(0, 3)), (slice(5, 6), slice(0, 1))]
    assert Lane.whole([], []).rows == 0
