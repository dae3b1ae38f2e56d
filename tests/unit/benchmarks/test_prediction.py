"""What the comparison of predicted and measured steps computes of its rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.setup.run import build_plan
from prediction.layouts import SUITES, Layout, config_of
from prediction.measured import Measured
from prediction.rows import Row, correlation, interval, summary, table, words


def row(name: str, measured: float, predicted: float, size: int = 0) -> Row:
    ranks = [Measured(blocks=[[measured, measured * 1.1], [measured]], held_bytes=size) for _rank in range(2)]
    made = Row(name, "tiny", predicted_seconds=predicted, predicted_bytes=size)
    made.take(ranks)
    return made


def test_rank_correlations_are_those_of_ranks() -> None:
    assert correlation([1.0, 2.0, 3.0], [10.0, 20.0, 900.0]) == pytest.approx(1.0)
    assert correlation([1.0, 2.0, 3.0], [9.0, 5.0, 1.0]) == pytest.approx(-1.0)
    # Spearman's textbook example: 1 - 6 * 8 / (5 * 24).
    assert correlation([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]) == pytest.approx(0.8)
    assert correlation([1.0, 1.0, 2.0], [1.0, 1.0, 5.0]) == pytest.approx(1.0)


@given(st.floats(-0.99, 0.99), st.integers(5, 40))
def test_an_interval_holds_its_correlation_and_shrinks_with_pairs(rho: float, count: int) -> None:
    low, high = interval(rho, count)
    assert -1.0 <= low <= rho <= high <= 1.0
    assert interval(rho, count + 10)[1] <= high


def test_a_step_is_as_long_as_on_its_slowest_rank() -> None:
    made = Row("one", "tiny")
    made.take([Measured(blocks=[[1.0, 5.0], [2.0]]), Measured(blocks=[[3.0, 4.0], [1.0]])])
    assert made.passes == [[3.0, 5.0, 2.0]]
    assert made.seconds == 3.0


def test_the_summary_compares_bests_and_medians() -> None:
    rows = [row("a", 1.0, 1.1, 100), row("b", 2.0, 1.0, 200), row("c", 4.0, 4.0, 300), Row("d", "tiny", failed="why")]
    found = summary(rows)
    assert (found["layouts"], found["predicted_best"], found["measured_best"]) == (3, "b", "a")
    assert found["best_over_best"] == pytest.approx(1.0)
    assert found["correlation"] == pytest.approx(0.5)
    assert found["repeated_correlation"] == pytest.approx(1.0)
    assert found["median_error"] == pytest.approx(0.1)
    assert found["median_memory_error"] == 0.0
    assert "rank correlation 0.500" in words(found)
    assert table(rows).splitlines()[-1].split() == ["d", "why"]
    assert words(summary(rows[:1])).startswith("1 layouts were measured")


@pytest.mark.parametrize("layout", [layout for suite in SUITES.values() for layout in suite], ids=lambda one: one.name)
def test_every_layout_has_a_plan(layout: Layout) -> None:
    plan = build_plan(config_of(layout, ["run.device=cpu"]))
    assert len(plan.placement.active) == layout.ranks
