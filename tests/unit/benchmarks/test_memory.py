"""What is predicted of memory is what was measured on GPUs, for every recorded result that holds its config."""

import pytest

from memory import RESULTS, Point, points

BAND = 0.1

_TOWER_ALONE = "ours,vision=1,sequences=8,schedule.microbatches=8"

MISSED = {
    ("hybrid_vlm_disjoint8_2xh200", _TOWER_ALONE, 0),
    ("hybrid_vlm_disjoint8_first_profiled_2xh200", f"{_TOWER_ALONE},schedule.encoder=first", 0),
}
"""Measured after the predictions were made, and more: not explained yet (docs/performance.md, "Memory")."""


@pytest.fixture(scope="module")
def found() -> tuple[Point, ...]:
    return tuple(points(sorted(RESULTS.glob("*.json"))))


def test_many_settings_were_measured(found: tuple[Point, ...]) -> None:
    assert len(found) >= 30
    assert {one.predicted.at.partition(".")[0] for one in found} == {"language", "vision"}
    words = " ".join(one.setting for one in found)
    for part in ("recompute=full", "recompute=[", "tp", "disjoint", "colocated", "group", "packed", "offload"):
        assert part in words


def test_every_measured_peak_is_predicted_within_a_tenth(found: tuple[Point, ...]) -> None:
    wrong = {(one.result, one.setting, one.rank) for one in found if abs(one.error) > BAND}
    assert wrong == MISSED


def test_what_stays_between_steps_is_predicted_within_a_tenth(found: tuple[Point, ...]) -> None:
    """Calls of earlier code let FSDP2 gather experts instead of keeping copies of them."""
    copies = ("hybrid_profiled_2xh200", "hybrid_vlm_2xh200")
    for one in found:
        band = BAND if one.result not in copies else 0.12
        assert one.predicted.static_bytes / 2**30 == pytest.approx(one.held, rel=band), one
