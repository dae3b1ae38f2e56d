"""Learning rates as a table."""

from typing import Any

import pytest

from counterpoint.optimizers.rates import LearningRateSection, learning_rate


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [8, 8, 8, 8, 8, 8, 8, 8, 8]),
        ({"warmup_steps": 4}, [2, 4, 6, 8, 8, 8, 8, 8, 8]),
        ({"kind": "linear"}, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"kind": "linear", "minimum": 0.5}, [8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5, 4]),
        ({"kind": "linear", "decay_steps": 4}, [8, 6, 4, 2, 0, 0, 0, 0, 0]),
        ({"kind": "linear", "warmup_steps": 4}, [2, 4, 6, 8, 8, 6, 4, 2, 0]),
        ({"kind": "cosine", "decay_steps": 4}, [8, 4 + 2 * 2**0.5, 4, 4 - 2 * 2**0.5, 0, 0, 0, 0, 0]),
        ({"kind": "cosine", "warmup_steps": 4, "minimum": 0.25},
         [2, 4, 6, 8, 8, 5 + 1.5 * 2**0.5, 5, 5 - 1.5 * 2**0.5, 2]),
        ({"kind": "linear", "warmup_steps": 8}, [1, 2, 3, 4, 5, 6, 7, 8, 8]),
    ],
    ids=str,
)  # fmt: skip
def test_learning_rates(schedule: dict[str, Any], expected: list[float]) -> None:
    section = LearningRateSection(**schedule)
    assert [learning_rate(8.0, section, step, 8) for step in range(9)] == pytest.approx(expected, abs=1e-12)
