"""Guessed memory: close to that of the simulated plan, for whatever a search looks at first."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from counterpoint.search.candidate import Candidate, Choice
from counterpoint.search.footprint import Footprints
from tests.unit.search.drawn import drawn
from tests.unit.search.worlds import HYBRID, PAIR, Small, small

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


@pytest.mark.parametrize("data", [PAIR, HYBRID], ids=["pair", "hybrid"])
def test_a_candidate_is_guessed_alike_whatever_was_guessed_before(data: dict[str, Any]) -> None:
    """Also such that differ in one thing alone from one before: recomputation, the schedule, or what comes after."""
    parts, dice = small(data, 4), random.Random(7)
    candidates = []
    for _ in range(30):
        candidate = drawn(parts, dice)
        again = [(name, each._replace(recompute=parts.space.recomputes[name][-1])) for name, each in candidate.choices]
        candidates += [
            candidate,
            Candidate(tuple(again), candidate.schedule),
            Candidate(candidate.choices[:1], candidate.schedule),
        ]
        candidates += [
            Candidate(candidate.choices, candidate.schedule.model_copy(update=update))
            for update in ({"kind": "gpipe"}, {"encoder": "first"}, {"buffer": 1}, {"encoder_group": 2})
        ]
    known = Footprints(parts.models, parts.work, parts.hardware)
    assert [known.memory_bytes(each) for each in candidates] == [
        Footprints(parts.models, parts.work, parts.hardware).memory_bytes(each) for each in candidates
    ]
    assert len({known.memory_bytes(each) for each in candidates}) > 60


HEAVY: dict[str, Any] = copy.deepcopy(PAIR)
"""An encoder that keeps more than the language model."""
HEAVY["modules"]["vision"]["model"]["layers"] = 24
HEAVY["modules"]["language"]["model"] |= {"hidden": 512, "ffn": 1024}


def _of_one_stage(parts: Small) -> Iterator[Candidate]:
    """Modules of one stage each on the same ranks, without recomputation, with several microbatches."""
    for placed in parts.space.placements:
        if len({ranks for _name, ranks in placed.ranks}) == 1:
            plain = [
                (name, Choice(ranks, one, parts.space.recomputes[name][0]))
                for name, ranks in placed.ranks
                for one in parts.space.degrees(name, len(ranks))
                if one.pp * one.chunks == 1 and one.dp == len(ranks)
            ]
            for count in (2, 4):
                schedule = parts.space.first_schedule.model_copy(update={"microbatches": count})
                candidate = Candidate(tuple({name: (name, choice) for name, choice in plain}.values()), schedule)
                if parts.space.problem(candidate) is None:
                    yield candidate


@pytest.mark.parametrize("trains", ["all", "none"])
def test_an_encoder_of_one_stage_keeps_one_microbatch_and_a_frozen_one_none(trains: str) -> None:
    data = copy.deepcopy(HEAVY)
    data["modules"]["vision"]["train"] = trains
    parts = small(data, 4)
    candidates = list(_of_one_stage(parts))
    assert candidates
    for candidate in candidates:
        needed = parts.scorer.score(parts.scorer.plan(candidate)).memory_bytes
        assert LEAST < parts.guess.memory_bytes(candidate) / needed < MOST, candidate
