"""Learning rates as a table."""

from typing import Any

import pytest
from pydantic import ValidationError

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.rates import LEARNING_RATES, learning_rate
from counterpoint.verify.rules import rate


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
        ({"kind": "wsd", "cooldown_steps": 4, "shape": "linear"}, [8, 8, 8, 8, 8, 6, 4, 2, 0]),
        ({"kind": "wsd", "cooldown_share": 0.5, "shape": "linear", "minimum": 0.5}, [8, 8, 8, 8, 8, 7, 6, 5, 4]),
        ({"kind": "wsd", "warmup_steps": 2}, [4, 8, 8, 8, 8, 8, 8, 8 - 8 * 0.5**0.5, 0]),
        ({"kind": "wsd", "warmup_steps": 4, "cooldown_steps": 4}, [2, 4, 6, 8, 8, 4, 8 - 8 * 0.5**0.5,
                                                                   8 - 8 * 0.75**0.5, 0]),
        ({"kind": "wsd", "warmup_steps": 4, "cooldown_steps": 100, "shape": "linear"}, [2, 4, 6, 8, 8, 6, 4, 2, 0]),
        ({"kind": "wsd", "cooldown_steps": 4, "shape": "cosine"},
         [8, 8, 8, 8, 8, 4 + 2 * 2**0.5, 4, 4 - 2 * 2**0.5, 0]),
        ({"kind": "wsd", "cooldown_share": 0.0}, [8, 8, 8, 8, 8, 8, 8, 8, 8]),
        ({"kind": "inverse_sqrt", "warmup_steps": 4},
         [2, 4, 6, 8, *(8 * (4 / n) ** 0.5 for n in (5, 6, 7, 8, 9))]),
        ({"kind": "inverse_sqrt", "minimum": 0.5}, [4 + 4 / n**0.5 for n in range(1, 10)]),
    ],
    ids=str,
)  # fmt: skip
def test_learning_rates(schedule: dict[str, Any], expected: list[float]) -> None:
    section = AdamWSection(lr=8.0, schedule=schedule)  # type: ignore[arg-type]
    rates = [learning_rate(section.lr, section.schedule, step, 8) for step in range(9)]
    assert rates == pytest.approx(expected, abs=1e-12)
    # The reference of `verify` says the same rules once more.
    assert [rate(section, step, 8) for step in range(9)] == pytest.approx(expected, abs=1e-12)


def test_each_kind_has_keys_of_its_own() -> None:
    with pytest.raises(ValidationError, match="decay_steps"):
        AdamWSection(lr=8.0, schedule={"kind": "wsd", "decay_steps": 3})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="cooldown_steps"):
        AdamWSection(lr=8.0, schedule={"kind": "cosine", "cooldown_steps": 3})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ({"kind": "linear", "warmup_steps": 4, "decay_steps": 4},
         "at.decay_steps: got 4, expected more than warmup_steps, 4; raise it or shorten the warm-up"),
        ({"kind": "wsd", "cooldown_steps": 4, "cooldown_share": 0.5},
         "at.cooldown_share: got 0.5, expected null, because cooldown_steps says 4; leave one of them out"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_go_together(schedule: dict[str, Any], sentence: str) -> None:
    section = AdamWSection(lr=8.0, schedule=schedule).schedule  # type: ignore[arg-type]
    assert [str(problem) for problem in LEARNING_RATES[section.kind].problems("at", section)] == [sentence]
