"""What the comparison of predicted and measured steps computes of its rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.setup.run import build_plan
from counterpoint.verify.pool import Pool
from prediction.layouts import SUITES, Layout, config_of
from prediction.measured import Effort, Measured, measure
from prediction.rows import Row, correlation, interval, summary, table, words


def row(name: str, measured: float, predicted: float, size: int = 0) -> Row:
    steps = [[measured, measured * 1.1], [measured]]
    ranks = [Measured(blocks=steps, batches=[[0, 0], [0]], held_bytes=size) for _rank in range(2)]
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
    batches = [[0, 0], [0]]
    made.take([
        Measured(blocks=[[1.0, 5.0], [2.0]], batches=batches), Measured(blocks=[[3.0, 4.0], [1.0]], batches=batches)
    ])  # fmt: skip
    assert made.passes == [[3.0, 5.0, 2.0]]
    assert made.seconds == 3.0


def _passes(*passes: tuple[list[float], list[int]]) -> Row:
    made = Row("one", "tiny")
    for steps, batches in passes:
        made.take([Measured(blocks=[steps], batches=[batches])])
    return made


def test_each_batch_counts_as_much_however_often_it_was_timed() -> None:
    made = _passes(([10.0, 4.0, 12.0, 10.0], [1, 0, 1, 1]))
    assert made.seconds == 7.0
    assert made.spread == pytest.approx((0.0 + 2.0) / 2)
    assert Row("older", "tiny", passes=[[10.0, 4.0, 12.0]]).seconds == 10.0


def test_repeated_measurements_are_passes_or_every_other_step_of_one() -> None:
    assert _passes(([1.0, 2.0], [0, 1]), ([3.0, 8.0], [0, 1])).halves == (1.5, 5.5)
    assert _passes(([1.0, 2.0, 3.0, 8.0], [0, 1, 0, 1])).halves == (1.5, 5.5)
    assert Row("older", "tiny", passes=[[1.0, 2.0, 3.0]]).halves == (2.0, 2.0)


def test_steps_are_timed_with_the_batches_that_take_turns() -> None:
    (layout,) = (one for one in SUITES["pair1"] if one.name == "1 microbatch")
    config = config_of(layout, ["run.device=cpu"], small=True)
    effort = Effort(rounds=2, steps=3, warmup=1, batches=2)
    with Pool(1, "cpu") as pool:
        (found,) = pool.run(measure, {"one": config}, effort)["one"]
    # Two steps before all blocks, since each batch has one, and one before each.
    assert found.batches == [[1, 0, 1], [1, 0, 1]]
    assert [len(block) for block in found.blocks] == [3, 3]


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
