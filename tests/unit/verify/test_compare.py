"""What equal means: gradients against those of their module and step, updates against the learning rate."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.verify.compare import Difference, Observation, compare_step, first_wrong, worst_of_kinds

RATES = {"vision": 0.1, "language": 0.1}


def _observation(vision: float, bias: float, language: float) -> Observation:
    gradients = {
        "vision.a.weight": torch.tensor([vision, 0.0], dtype=torch.float64),
        "vision.a.bias": torch.tensor([bias], dtype=torch.float64),
        "language.a.weight": torch.tensor([language], dtype=torch.float64),
    }
    return Observation(
        loss=1.0, balance_loss=0.0, mtp_loss=0.0, further={}, norm=2.0, rates=RATES, gradients=gradients,
        updates={key: value * 0.1 for key, value in gradients.items()},
    )  # fmt: skip


def _gradient(ours: Observation, reference: Observation) -> Difference:
    return next(each for each in worst_of_kinds(compare_step(1, ours, reference)) if each.kind == "gradient")


def test_a_gradient_is_measured_against_itself() -> None:
    found = _gradient(_observation(1.0 + 1e-6, 0.5, 3.0), _observation(1.0, 0.5, 3.0))
    assert found.value == pytest.approx(1e-6)
    assert found.where == "step 1: vision.a.weight"


def test_a_gradient_that_is_zero_by_mathematics_is_measured_against_its_module() -> None:
    assert _gradient(_observation(1.0, 2e-17, 3.0), _observation(1.0, 0.0, 3.0)).value == pytest.approx(2e-14)


def test_a_module_of_small_gradients_is_still_measured_against_itself() -> None:
    small = _gradient(_observation(1e-6 * (1 + 1e-8), 0.0, 1.0), _observation(1e-6, 0.0, 1.0))
    assert small.value == pytest.approx(1e-8)


def test_nan_is_infinitely_different() -> None:
    good = _observation(1.0, 0.5, 3.0)
    assert _gradient(_observation(math.nan, 0.5, 3.0), good).value == math.inf
    losses = compare_step(1, replace(good, loss=math.nan), good)
    assert next(each for each in losses if each.kind == "loss").value == math.inf


def test_a_parameter_on_one_side_only_is_told() -> None:
    good = _observation(1.0, 0.5, 3.0)
    fewer = replace(good, gradients=dict(list(good.gradients.items())[:2]))
    (found,) = compare_step(1, fewer, good)
    assert found.value == math.inf
    assert "language.a.weight is on one side only" in found.where


def test_differences_come_in_the_order_of_a_step() -> None:
    """Loss, norm, gradients from the last to the first, rates, updates: what is wrong first is nearest to the cause."""
    good = _observation(1.0, 0.5, 3.0)
    kinds = ["loss", "balance loss", "MTP loss", "norm", *["gradient"] * 3, *["learning rate"] * 2, *["update"] * 3]
    found = compare_step(1, good, good)
    assert [each.kind for each in found] == kinds
    assert [each.where for each in found if each.kind == "gradient"] == [
        "step 1: language.a.weight", "step 1: vision.a.bias", "step 1: vision.a.weight"
    ]  # fmt: skip


@given(st.lists(st.sampled_from(["loss", "norm", "bias", "weight", "rate", "update"]), unique=True, min_size=1))
def test_the_first_of_what_is_wrong_is_told(wrong: list[str]) -> None:
    good = _observation(1.0, 0.5, 3.0)
    bad = _observation(1.0 + ("weight" in wrong), 0.5 + ("bias" in wrong), 3.0)
    updates = {key: value + ("update" in wrong) for key, value in good.updates.items()}
    bad = replace(
        bad,
        loss=1.0 + ("loss" in wrong),
        norm=2.0 + ("norm" in wrong),
        rates={"vision": 0.1 + ("rate" in wrong), "language": 0.1},
        updates=updates,
    )
    first = first_wrong(compare_step(0, bad, good), 1e-9)
    assert first is not None
    order = {
        "loss": "loss differs by 1.0e+00 at step 0",
        "norm": "norm differs by 5.0e-01 at step 0",
        "bias": "gradient differs by 2.0e+00 at step 0: vision.a.bias",
        "weight": "gradient differs by 1.0e+00 at step 0: vision.a.weight",
        "rate": "learning rate differs by 1.0e+01 at step 0: vision",
        "update": "update differs by 1.0e+01 at step 0: vision.a.weight",
    }
    assert str(first) == next(words for kind, words in order.items() if kind in wrong)
    assert first_wrong(compare_step(0, good, good), 1e-9) is None
