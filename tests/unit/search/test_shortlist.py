"""The shortlist of a placement is the head of all its combinations, ranked, though few of them are looked at."""

import heapq
from itertools import product
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.search.candidate import Candidate
from counterpoint.search.shortlist import Shortlist
from tests.unit.report.pages import EXAMPLES

from .worlds import HYBRID, PAIR, small

TOWERS = load_config(EXAMPLES / "two_towers.yaml").resolved()


@pytest.mark.parametrize(("data", "gib"), [(PAIR, 80.0), (PAIR, 3.0), (HYBRID, 80.0), (HYBRID, 3.0), (TOWERS, 80.0)])
def test_the_best_are_those_of_all_combinations(
    data: dict[str, Any], gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two modules with as many choices as there are, and of four with few."""
    few = len(data["modules"]) > 2
    monkeypatch.setattr("counterpoint.search.shortlist._COMBINED", 81 if few else 256)
    world = small(data, 4)
    shortlist = Shortlist(world.space, world.bounds, world.guess, gib * 2**30)
    looked_at = penalised = 0
    for placed in world.space.placements[:: 8 if few else 1]:
        lists = [shortlist._choices(name, ranks)[: 3 if few else 16] for name, ranks in placed.ranks]
        candidates = [
            Candidate(tuple((name, one) for (name, _ranks), one in zip(placed.ranks, choices, strict=True)), schedule)
            for choices in product(*lists)
            for schedule in map(world.space.first_of, world.space.microbatches(choices[-1].degrees))
        ]
        every = [(shortlist.key(each), each) for each in candidates]
        found = shortlist.combined(placed)
        assert [key for key, _one in found] == heapq.nsmallest(2, (key for key, _one in every))
        assert [key for key, _one in found] == [shortlist.key(one) for _key, one in found]
        assert len({one for _key, one in found}) == len(found)
        looked_at += len(every)
        penalised += sum(key > world.guess.seconds(each) for key, each in every)
    assert looked_at > 100
    assert (penalised > 0) == (gib < 80)


def test_few_combinations_of_many_modules_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(TOWERS, 4)
    looked_at = 0
    key = Shortlist.key

    def counted(self: Shortlist, candidate: Candidate) -> float:
        nonlocal looked_at
        looked_at += 1
        return key(self, candidate)

    monkeypatch.setattr(Shortlist, "key", counted)
    shortlist = Shortlist(world.space, world.bounds, world.guess, 80 * 2**30)
    for placed in world.space.placements:
        assert len(shortlist.combined(placed)) == 2
    assert looked_at < 2000 * len(world.space.placements)
