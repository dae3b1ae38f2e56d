"""What differs between two trees is noticed: a bit of a loss, a name that is gone, an event more in a program."""

import json
import math
from functools import cache
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.report.plan_json import plan_json
from counterpoint.setup.run import build_plan
from tests.golden.compare import compare
from tests.golden.digest import bits, short
from tests.golden.written import written_goldens
from tests.unit.structure.sources import ROOT

LOSS = 3.25
TINY = ROOT / "tests" / "parity" / "tiny.yaml"


@cache
def tiny() -> str:
    """The plan of the smallest pair as it is written for other programs."""
    return json.dumps(plan_json(build_plan(load_config(TINY))))


def goldens(loss: float = LOSS, *more: str) -> dict[str, Any]:
    """A small tree's goldens, with `more` actions at the end of the first rank's program."""
    written = json.loads(tiny())
    written["schedule"]["programs"]["0"] += more
    plan = {kind: {"tiny": golden} for kind, golden in written_goldens(written).items()}
    losses, parameters = {"step 0": {"loss": bits(loss)}}, {"embed.weight": "(2,)"}
    return plan | {"losses": {"tiny": losses}, "parameters": {"tiny": parameters}}


def different(hand: dict[str, Any]) -> dict[str, list[str]]:
    """By kind, the names that differ from the small tree's."""
    kinds = compare(goldens(), hand)
    return {kind.name: [name for name, *_values in kind.differences] for kind in kinds if kind.differences}


def test_the_same_is_the_same() -> None:
    assert different(goldens()) == {}


def test_the_last_bit_of_a_loss_is_noticed() -> None:
    assert different(goldens(loss=math.nextafter(LOSS, 4.0))) == {"losses": ["tiny | step 0 | loss"]}


@pytest.mark.parametrize("lost", ["base", "hand"])
def test_a_name_on_one_side_only_is_noticed(lost: str) -> None:
    base, hand = goldens(), goldens()
    hand["parameters"]["tiny"]["head.weight"] = "(3,)"
    sides = (base, hand) if lost == "base" else (hand, base)
    (kind,) = [kind for kind in compare(*sides) if kind.differences]
    assert kind.compared == 2
    values = (None, "(3,)") if lost == "base" else ("(3,)", None)
    assert kind.differences == (("tiny | head.weight", *values),)
    assert len(list(kind.lines())) == 2


def test_an_event_more_in_a_program_is_noticed() -> None:
    assert different(goldens(LOSS, "S")) == {"programs": ["tiny | training rank 0"]}


def test_a_kind_that_is_gone_or_empty_is_noticed() -> None:
    hand = goldens()
    del hand["losses"]
    assert different(hand) == {"losses": ["tiny | step 0 | loss"]}
    (kind,) = compare({"losses": {}}, {"losses": {}})
    assert kind.differences


def test_numbers_are_compared_by_their_bits_and_types() -> None:
    assert short(0.1 + 0.2) != short(0.3)
    kinds = compare({"facts": {"a": 1, "b": True}}, {"facts": {"a": 1.0, "b": 1}})
    assert [name for name, *_values in kinds[0].differences] == ["a", "b"]
