"""Each key of each config.json flipped: ours refuses, or computes what transformers computes with the same weights."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from counterpoint.convert.fields import Fields
from tests.unit.judge.flips import (
    CASES,
    EQUAL,
    Case,
    Flip,
    distance,
    flips_of,
    make_case,
    make_hub_case,
    our_answer,
    tried,
)
from tests.unit.judge.hub_folders import FAMILIES
from tests.unit.judge.judge import REASON

pytest.importorskip("transformers", reason=REASON)

IN_SUITE = 6


def before(case: Case) -> Tensor:
    """What both sides say of the case as it is."""
    model = case.make(case.config)
    model.load_state_dict(case.state)
    with torch.no_grad():
        theirs = case.theirs(model)
    ours = our_answer(case, case.config)
    assert ours is not None
    assert distance(ours, theirs) <= EQUAL
    return theirs


@pytest.mark.parametrize("name", ["llama", "nemotron_h"])
def test_a_sample_of_flips_is_refused_or_equal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(name, tmp_path, monkeypatch)
    first = before(case)
    chosen = random.Random(0).sample(flips_of(case.config), IN_SUITE)
    assert [str(flip) for flip in chosen if tried(case, flip, first).is_fault] == []


def test_a_key_that_is_ignored_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case("llama", tmp_path, monkeypatch)
    flip, first, number = Flip(("rms_norm_eps",), 0.7), before(case), Fields.number

    def ignoring(fields: Fields, key: str, default: float | None = None) -> float:
        read = number(fields, key, default)
        return 1e-5 if key == "rms_norm_eps" else read

    assert not tried(case, flip, first).is_fault
    monkeypatch.setattr(Fields, "number", ignoring)
    assert tried(case, flip, first).is_fault


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
def test_every_flip_is_refused_or_equal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = make_case(name, tmp_path, monkeypatch)
    _judge_all(case, before(case), flips_of(case.config), name, capsys)


def _judge_all(case: Case, first: Tensor, flips: list[Flip], called: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [tried(case, flip, first) for flip in flips]
    ends = Counter(outcome.end for outcome in outcomes)
    with capsys.disabled():
        sys.stdout.write(f"\n| {called} | {len(outcomes)} | {' | '.join(str(ends[end]) for end in ENDS)} |\n")
    assert [str(outcome.flip) for outcome in outcomes if outcome.is_fault] == []


@pytest.mark.sweep
@pytest.mark.parametrize("family", FAMILIES)
def test_every_flip_of_every_family_is_refused_or_equal(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = make_hub_case(family, tmp_path, monkeypatch)
    _judge_all(case, before(case), flips_of(case.config), family, capsys)


ENDS = ("same", "moved alike", "refused", "refused there", "differs")
