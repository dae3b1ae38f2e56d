"""What equal means: gradients against those of their module and step, updates against the learning rate."""

import math
from dataclasses import replace

import pytest
import torch

from counterpoint.verify.compare import Difference, Observation, compare_step

RATES = {"vision": 0.1, "language": 0.1}


def _observation(vision: float, bias: float, language: float) -> Observation:
    gradients = {
        "vision.a.weight": torch.tensor([vision, 0.0], dtype=torch.float64),
        "vision.a.bias": torch.tensor([bias], dtype=torch.float64),
        "language.a.weight": torch.tensor([language], dtype=torch.float64),
    }
    return Observation(1.0, 0.0, 0.0, 2.0, gradients, {key: value * 0.1 for key, value in gradients.items()})


def _gradient(ours: Observation, reference: Observation) -> Difference:
    return next(each for each in compare_step(1, ours, reference, RATES) if each.kind == "gradient")


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
    losses = compare_step(1, replace(good, loss=math.nan), good, RATES)
    assert next(each for each in losses if each.kind == "loss").value == math.inf


def test_a_parameter_on_one_side_only_is_told() -> None:
    good = _observation(1.0, 0.5, 3.0)
    fewer = replace(good, gradients=dict(list(good.gradients.items())[:2]))
    (found,) = compare_step(1, fewer, good, RATES)
    assert found.value == math.inf
    assert "language.a.weight is on one side only" in found.where
