"""Positions of three axes, from a document's items."""

from counterpoint.data.feed.positions import lay_positions
from counterpoint.plan.positions import position_runs
from counterpoint.plan.samples import Document, Item


def test_text_counts_and_an_item_spreads_over_its_grid() -> None:
    document = Document(0, 0, 11, 4, (Item("vision", 2, 24, 6, columns=3),))
    assert lay_positions(document, 3).tolist() == [
        [0, 0, 0], [1, 1, 1],
        [2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4],
        [5, 5, 5], [6, 6, 6], [7, 7, 7],
    ]  # fmt: skip
    assert lay_positions(document, 1)[:, 0].tolist() == list(range(11))


def test_a_high_item_counts_its_rows_and_neighbours_follow_each_other() -> None:
    document = Document(0, 0, 6, 0, (Item("vision", 0, 4, 4, columns=1), Item("vision", 4, 2, 2, columns=2)))
    assert lay_positions(document, 3).tolist() == [
        [0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 3, 0], [4, 4, 4], [4, 4, 5],
    ]  # fmt: skip


def test_runs_cover_every_row_once() -> None:
    document = Document(0, 0, 9, 0, (Item("vision", 1, 4, 4, columns=2), Item("vision", 5, 2, 2, columns=1)))
    rows = [row for run in position_runs(document) for row in range(run.row, run.row + run.rows)]
    assert rows == list(range(9))
