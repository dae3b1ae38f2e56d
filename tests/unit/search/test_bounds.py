"""Bounds: no simulated plan is faster or smaller than they say."""

import random
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from counterpoint import costs
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


def test_what_only_some_documents_need_of_a_frozen_model_is_no_part_of_a_bound() -> None:
    """A frozen language model goes back only for microbatches with images, here one document in eight."""
    data = deepcopy(PAIR)
    data["modules"]["language"]["train"] = "none"
    data["modules"]["vision"]["model"] |= {"layers": 1, "hidden": 256, "ffn": 1024}
    data["data"]["train"] = [
        {"synthetic": data["data"]["train"][0]["synthetic"] | {"images_per_document": images}, "weight": weight}
        for images, weight in ((_exactly(0), 7), (_exactly(1), 1))
    ]
    parts = small(data, 1, fixed=("modules.*.layout.*", "modules.*.recompute", "schedule.kind", "schedule.encoder*"))
    by_count: dict[int, float] = {}
    for candidate in parts.walk(10**6)._everything():
        score = parts.scorer.score(parts.scorer.plan(candidate))
        assert parts.bounds.seconds(candidate) <= score.seconds
        count = candidate.schedule.microbatches
        by_count[count] = min(score.seconds, by_count.get(count, score.seconds))
    assert min(by_count, key=by_count.__getitem__) == 8, "all gradients of inputs are in one of eight"


def test_microbatches_without_documents_are_no_part_of_a_bound() -> None:
    """Few long packs leave some empty, which no host launches."""
    data = deepcopy(PAIR)
    data["modules"]["language"]["model"] |= {"hidden": 512, "ffn": 1024}
    data["modules"]["vision"]["model"] |= {"layers": 1, "hidden": 64, "ffn": 128}
    synthetic = data["data"]["train"][0]["synthetic"] | {"images_per_document": _exactly(0)}
    data["data"]["train"] = [
        {"synthetic": synthetic | {"text_tokens": {"kind": "uniform", "low": low, "high": high}}, "weight": weight}
        for low, high, weight in ((64, 128, 3), (3000, 4000, 1))
    ]
    data["data"]["sequence_tokens"] = 4200
    data["training"]["global_batch_samples"] = 12
    parts = small(data, 2, fixed=("modules.*.recompute",))
    hardware = costs.load("H200")
    bounds, scorer = replace(parts.bounds, hardware=hardware), replace(parts.scorer, hardware=hardware)
    empty = 0
    (placed,) = (each for each in parts.space.placements if each.is_colocated)
    for candidate in parts.space.candidates(placed):
        if candidate.by_module["language"].degrees.dp == 1:
            continue
        plan = scorer.plan(candidate)
        assert bounds.seconds(candidate) <= scorer.score(plan).seconds
        served = len(plan.batch(0, parts.work.steps[0]).served("language"))
        assert parts.work.filled(2, plan.microbatches) == served
        empty += served < plan.microbatches
    assert empty > 10


def _exactly(number: int) -> dict[str, Any]:
    return {"kind": "uniform", "low": number, "high": number}
