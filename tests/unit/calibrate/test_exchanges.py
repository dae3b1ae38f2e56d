"""Which ranks are measured together."""

import pytest

from counterpoint.calibrate.exchanges import Ranks


@pytest.mark.parametrize(
    ("ranks", "counts", "neighbours", "counterparts"),
    [
        (Ranks(0, 1, 1), (), [], []),
        (Ranks(0, 2, 2), (2,), [(0, 1)], []),
        (Ranks(0, 3, 3), (2, 3), [(0, 1)], []),
        (Ranks(0, 8, 8), (2, 4, 8), [(0, 1), (2, 3), (4, 5), (6, 7)], []),
        (Ranks(0, 6, 3), (2, 3), [(0, 1), (3, 4)], [(0, 3), (1, 4), (2, 5)]),
        (Ranks(0, 3, 1), (), [], [(0, 1)]),
    ],
)
def test_teams_stay_inside_nodes(
    ranks: Ranks, counts: tuple[int, ...], neighbours: list[tuple[int, int]], counterparts: list[tuple[int, int]]
) -> None:
    assert ranks.counts == counts
    assert ranks.neighbours == neighbours
    assert ranks.counterparts == counterparts
    for count in counts:
        teams = list(ranks.teams(count))
        assert all(team[0] // ranks.per_node == team[-1] // ranks.per_node for team in teams)
        assert len(teams) == ranks.size // ranks.per_node * (ranks.per_node // count)
