"""Plans as plain data, and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given

from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.errors import InputError
from counterpoint.plan.form import form_of, plan_of_form
from counterpoint.plan.plan import Plan
from tests.unit.plan.strategies import plans
from tests.unit.planned import planned
from tests.unit.report.pages import sized_plans

PARITY = Path(__file__).parents[2] / "parity"


@given(plans())
def test_any_plan_is_read_back_equal(plan: Plan) -> None:
    assert plan_of_form(json.loads(json.dumps(form_of(plan)))) == plan


@given(sized_plans())
def test_any_plan_of_models_is_read_back_equal(plan: Plan) -> None:
    assert plan_of_form(json.loads(json.dumps(form_of(plan)))) == plan


@pytest.mark.parametrize("name", ["tiny", "hybrid", "towers", "speech", "given"])
def test_what_is_read_back_says_the_same(name: str) -> None:
    plan = planned(load_config(PARITY / f"{name}.yaml"), 61)
    again = plan_of_form(json.loads(json.dumps(form_of(plan))))
    assert again == plan
    assert again.schedule == plan.schedule
    assert again.communicators == plan.communicators
    assert check_plan(again) == check_plan(plan)


@pytest.mark.parametrize("form", [None, {}, {"placement": 3}, []])
def test_what_is_no_plan_is_answered_in_one_sentence(form: object) -> None:
    with pytest.raises(InputError, match=r"a plan.s form: got .*, expected what .counterpoint plan --json. writes"):
        plan_of_form(form)
