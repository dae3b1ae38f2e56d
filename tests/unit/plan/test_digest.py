"""A digest depends on what a value is, not on the process that made it; equal plans of two processes have one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.action import Direction
from counterpoint.plan.digest import digest_of
from counterpoint.plan.plan import Plan
from tests.unit.plan.strategies import plans, small_plan

ROOT = Path(__file__).parents[3]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False) | st.sampled_from(Direction),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers()),
)


def _form(value: object) -> object:
    """What distinguishes a value: True is not 1, and 0.0 is not -0.0."""
    match value:
        case tuple():
            return tuple(map(_form, value))
        case dict():
            return frozenset((key, _form(one)) for key, one in value.items())
        case frozenset():
            return ("set", value)
        case _:
            return (type(value).__name__, repr(value))


@given(VALUES, VALUES)
def test_only_equal_values_share_a_digest(one: object, other: object) -> None:
    assert (digest_of(one) == digest_of(other)) is (_form(one) == _form(other))


@pytest.mark.parametrize(
    "values",
    [
        ((("a",), "b"), (("a", "b"),), ("a", ("b",))),
        (((), ()), (((),),)),
        (((1, 2), (3,)), ((1,), (2, 3)), ((1, 2, 3),)),
        (({"a": ()}, "b"), ({"a": ("b",)},)),
        ((frozenset(), 1), (frozenset({1}),)),
    ],
)
def test_where_a_value_ends_counts(values: tuple[object, ...]) -> None:
    assert len({digest_of(value) for value in values}) == len(values)


@given(st.dictionaries(st.text(), st.integers()), st.integers())
def test_no_order_of_a_dict_counts(values: dict[str, int], seed: int) -> None:
    items = list(values.items())
    Random(seed).shuffle(items)
    assert digest_of(dict(items)) == digest_of(values)


def test_what_is_no_plain_data_has_none() -> None:
    with pytest.raises(TypeError, match="no digest of a function"):
        digest_of((1, lambda: None))


@given(plans())
def test_another_plan_has_another_digest(plan: Plan) -> None:
    others = replace(plan, microbatches=plan.microbatches + 1), replace(plan, dtype="other"), replace(plan, run_ahead=7)
    assert plan.digest == replace(plan).digest
    assert plan.digest not in {other.digest for other in others}


def test_another_order_of_one_rank_shows() -> None:
    """A schedule that is registered may be another one under the same name."""
    plan, other = small_plan(), small_plan()
    programs = dict(other.schedule.programs)
    programs[0] = programs[0][::-1]
    vars(other)["schedule"] = replace(other.schedule, programs=programs)
    assert other.digest != plan.digest


def test_processes_with_other_hash_seeds_agree() -> None:
    code = "from tests.unit.plan.strategies import small_plan; print(small_plan().digest)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {small_plan().digest}
