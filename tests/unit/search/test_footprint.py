"""Guessed memory: close to that of the simulated plan, for whatever a search looks at first."""

import random
from typing import Any

import pytest

from counterpoint.search.candidate import Candidate
from tests.unit.search.drawn import drawn
from tests.unit.search.worlds import HYBRID, PAIR, small

LEAST = 0.9
"""Of the simulated bytes: hardly any candidate that seems to fit does not."""

MOST = 1.25
"""The same on the schedule on which layouts are compared."""

MOST_OF_SPLIT = 1.5
"""The same under any other; where backwards are split, what waits is taken to wait together."""


@pytest.mark.parametrize("world_size", [4, 8])
@pytest.mark.parametrize("data", [PAIR, HYBRID], ids=["pair", "hybrid"])
def test_guessed_memory_is_close_to_that_of_the_plan(data: dict[str, Any], world_size: int) -> None:
    parts, dice = small(data, world_size), random.Random(5)
    for number in range(12):
        candidate, most = drawn(parts, dice), MOST_OF_SPLIT
        if number % 2:
            count = candidate.schedule.microbatches
            first = parts.space.first_schedule.model_copy(update={"microbatches": count})
            candidate, most = Candidate(candidate.choices, first), MOST
        needed = parts.scorer.score(parts.scorer.plan(candidate)).memory_bytes
        assert LEAST < parts.guess.memory_bytes(candidate) / needed < most, candidate
