"""Who is slower than those that do the same is named, and nobody else."""

import json

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.train.metrics.slow import slow_ranks

ROLES = {0: "vision", 1: "vision", 2: "vision", 3: "language", 4: "language"}


def test_the_slow_one_of_a_role_is_named_with_its_ratio() -> None:
    assert slow_ranks({0: 2.5, 1: 1.0, 2: 1.0, 3: 8.0, 4: 8.1}, ROLES, 10.0) == {0: 2.5}
    assert slow_ranks({0: 1.0, 1: 1.0, 2: 1.0, 3: 8.0, 4: 2.0}, ROLES, 10.0) == {3: 4.0}


def test_one_that_is_alone_is_compared_with_nobody() -> None:
    assert slow_ranks({0: 1.0, 1: 9.0}, {0: "vision", 1: "language"}, 10.0) == {}


def test_noise_of_little_work_names_nobody() -> None:
    assert slow_ranks({0: 0.03, 1: 0.01, 2: 0.01}, ROLES, 10.0) == {}


@given(st.lists(st.integers(0, 10_000_000), min_size=5, max_size=5), st.integers(100_000, 10_000_000))
def test_of_a_role_at_most_half_are_slow(microseconds: list[int], passed: int) -> None:
    """The ratios are numbers that JSON has, also where others did nothing."""
    found = slow_ranks({rank: busy / 1e6 for rank, busy in enumerate(microseconds)}, ROLES, passed / 1e6)
    assert len(found) <= 2
    assert all(ratio > 1.5 for ratio in found.values())
    json.dumps(found, allow_nan=False)


def test_who_works_while_others_have_nothing_to_do_is_not_slow() -> None:
    assert slow_ranks({0: 5.0, 1: 0.0, 2: 0.0}, ROLES, 10.0) == {}
