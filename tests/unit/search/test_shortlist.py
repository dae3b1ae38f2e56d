"""The shortlist of a placement is the head of all its combinations, ranked, though few of them are looked at whole."""

import heapq

import pytest

from counterpoint.search.shortlist import Shortlist

from .worlds import HYBRID, PAIR, small


@pytest.mark.parametrize("gib", [80.0, 3.0])
@pytest.mark.parametrize("data", [PAIR, HYBRID], ids=["pair", "hybrid"])
def test_the_best_are_those_of_all_combinations(data: dict[str, object], gib: float) -> None:
    world = small(data, 4)
    shortlist = Shortlist(world.space, world.bounds, world.guess, gib * 2**30)
    looked_at = penalised = 0
    for placed in world.space.placements:
        lists = [shortlist._choices(name, ranks) for name, ranks in placed.ranks]
        every = [(shortlist.key(each), each) for each in shortlist._combinations(placed, lists)]
        assert shortlist.combined(placed) == heapq.nsmallest(2, every, key=lambda each: each[0])
        looked_at += len(every)
        penalised += sum(key > world.guess.seconds(each) for key, each in every)
    assert looked_at > 100
    assert (penalised > 0) == (gib < 80)
