import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.order.blend import Blend, integer_weights
from counterpoint.errors import DataError

weights = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple)


@settings(deadline=None, max_examples=40)
@given(weights=weights, cycle=st.integers(0, 1000))
def test_a_cycle_holds_every_source_exactly_by_its_weight(weights: tuple[int, ...], cycle: int) -> None:
    total = sum(weights)
    source, _ = Blend(weights).draw(np.arange(cycle * total, (cycle + 1) * total))
    assert tuple(np.bincount(source, minlength=len(weights))) == weights


@settings(deadline=None, max_examples=40)
@given(weights=weights, draws=st.integers(1, 200))
def test_turns_count_the_draws_of_a_source_and_shares_hold_at_every_point(weights: tuple[int, ...], draws: int) -> None:
    source, turn = Blend(weights).draw(np.arange(draws))
    for number, weight in enumerate(weights):
        assert turn[source == number].tolist() == list(range((source == number).sum()))
        assert abs((source == number).sum() - draws * weight / sum(weights)) <= len(weights) / 2 + 1e-9


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1.0], (1,)), ([0.1, 0.3], (1, 3)), ([1.0, 0.25], (4, 1)), ([6.0, 4.0], (3, 2))],
)
def test_decimal_weights_become_the_smallest_integers(weights: list[float], expected: tuple[int, ...]) -> None:
    assert integer_weights(weights) == expected


@pytest.mark.parametrize("weights", [[0.0, 1.0], [-1.0], [float("nan")], [float("inf")]])
def test_weights_that_are_no_positive_numbers_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="not a positive number"):
        integer_weights(weights)


def test_weights_with_too_many_digits_are_refused() -> None:
    with pytest.raises(DataError, match="fewer digits"):
        integer_weights([0.1234567, 1.0])
