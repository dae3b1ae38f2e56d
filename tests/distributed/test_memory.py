"""The predicted peak of every rank is what its tensors take in a step, in many layouts."""

import math
from typing import Any

import pytest

from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.simulate.memory import RankMemory, memory
from counterpoint.simulate.sizes import lane_rows
from counterpoint.verify.pool import Pool
from tests.distributed.measured_memory import measure
from tests.distributed.memory_configs import LAYOUTS

BAND = 0.1

STATIC_BAND = 0.03
"""Of the peak: inputs and small tensors stay between steps, too."""

OFTEN = ("tp2", "ep2")
"""Layouts of `make test`; the others are like them in all but one thing."""

CASES: list[Any] = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.more) for name in LAYOUTS]


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_what_is_predicted(pool: Pool, name: str) -> None:
    config = LAYOUTS[name]
    predicted, measured = _predicted(config), pool.run(measure, config)
    assert len(measured) == len(predicted) == 2
    for rank, found in enumerate(measured):
        static = predicted[rank].static_bytes
        assert abs(found.held - static) < STATIC_BAND * found.peak, (rank, found, predicted[rank])
        assert math.isclose(predicted[rank].total_bytes, found.peak, rel_tol=BAND), (rank, found, predicted[rank])


def _predicted(config: Config) -> dict[int, RankMemory]:
    plan, _models, corpus = prepare_run(config)
    batch = plan.batch(1, corpus.packs(1))
    programs = plan.of_step(plan.schedule, batch, batch).programs
    return memory(plan, lane_rows(plan, batch), programs)
