"""When a step was through is a fact of the step, not of the moment at which it is read."""

import time

import torch

from counterpoint.train.engine import LaunchedStep, StepResult


def test_steps_that_are_read_together_did_not_end_together() -> None:
    def read(_scalars: list[float], ended: float) -> StepResult:
        return StepResult(0.0, 0.0, None, None, 0.0, {}, {}, False, 0, ended)

    launched = []
    for _step in range(2):
        time.sleep(0.05)
        launched.append(LaunchedStep(torch.zeros(1), read))
    time.sleep(0.05)
    first, second = (step.result().ended for step in launched)
    assert second - first >= 0.05
    assert time.perf_counter() - second >= 0.05
