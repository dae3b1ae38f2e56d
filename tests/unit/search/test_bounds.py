"""Bounds: no simulated plan is faster or smaller than they say."""

import random
from typing import Any

import pytest

from counterpoint.search.candidate import Candidate, Choice
from tests.unit.search.drawn import drawn
from tests.unit.search.worlds import HYBRID, PAIR, small


@pytest.mark.parametrize("data", [PAIR, HYBRID], ids=["pair", "hybrid"])
def test_no_plan_is_under_its_bounds(data: dict[str, Any]) -> None:
    parts, dice = small(data, 4), random.Random(3)
    tight = 0.0
    for _ in range(16):
        candidate = drawn(parts, dice)
        score = parts.scorer.score(parts.scorer.plan(candidate))
        assert parts.bounds.seconds(candidate) <= score.seconds
        assert parts.bounds.memory_bytes(candidate) <= score.memory_bytes
        tight = max(tight, parts.bounds.memory_bytes(candidate) / score.memory_bytes)
    assert tight > 0.3


def test_a_longer_pipeline_has_a_larger_bound() -> None:
    """With as many microbatches the same work on the same ranks waits for more stages."""
    parts = small(PAIR, 4, overrides=("schedule.microbatches=2", "modules.vision.layout.tp=4"))
    ranks = range(4)
    bounds: dict[int, float] = {}
    for degrees in parts.space.degrees("language", 4):
        if degrees.dp == degrees.tp * degrees.cp == 1 or degrees.pp == 1:
            vision = Choice(ranks, parts.space.degrees("vision", 4)[0], parts.space.recomputes["vision"][0])
            language = Choice(ranks, degrees, parts.space.recomputes["language"][0])
            candidate = Candidate((("vision", vision), ("language", language)), parts.space.first_schedule)
            bounds[degrees.pp] = max(bounds.get(degrees.pp, 0.0), parts.bounds.seconds(candidate))
    assert bounds[4] > bounds[1] > 0.0
