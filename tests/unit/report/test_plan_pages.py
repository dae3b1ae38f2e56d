"""The plan as a page and as data."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.plan.action import parse_action
from counterpoint.plan.plan import Plan
from counterpoint.report.plan_html import plan_html
from counterpoint.report.plan_json import plan_json
from counterpoint.report.routes_svg import routed_rows
from tests.unit.plan.strategies import random_packs
from tests.unit.report.pages import Page, example, sized_plans

NAMES = ("synthetic_disjoint", "synthetic_colocated", "language_only")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_an_example_is_whole(name: str) -> None:
    plan, batch = example(name)
    page = Page(plan_html(plan, batch))
    for words in ("Placement", "Proof", "Timeline", "Memory", "bubble at unit costs", "language backward"):
        assert words in page.text
    assert ("Routes" in page.text) is (name != "language_only")
    assert not page.addresses


def test_without_a_batch_there_are_no_routes() -> None:
    plan, _batch = example("synthetic_disjoint")
    page = Page(plan_html(plan))
    assert "Routes" not in page.text
    assert "no batch was given" in page.text


def test_routed_rows_are_the_image_rows_of_the_batch() -> None:
    plan, batch = example("synthetic_disjoint")
    (link,) = plan.stages.links
    expected = sum(item.rows for document in batch.documents for item in document.items)
    assert sum(routed_rows(plan, batch, link).values()) == expected > 0


@settings(max_examples=30)
@given(sized_plans(), st.integers(0, 2**16))
def test_any_plan_makes_a_page_that_parses(plan: Plan, seed: int) -> None:
    page = Page(plan_html(plan, plan.batch(0, random_packs(plan, seed))))
    for module in plan.graph.modules:
        assert module in page.text


@given(sized_plans())
def test_data_survives_json_and_its_actions_parse_back(plan: Plan) -> None:
    data = plan_json(plan)
    assert json.loads(json.dumps(data)) == data
    for rank, program in plan.schedule.programs.items():
        assert tuple(parse_action(text) for text in data["schedule"]["programs"][str(rank)]) == program
    assert set(data["modules"]) == set(plan.graph.modules)
    for module, layout in plan.layouts.items():
        stages = data["modules"][module]["stages"]
        assert sorted({rank for stage in stages for rank in stage["ranks"]}) == list(layout.ranks)
        assert sum(stage["parameters"] for stage in stages) == plan.facts[module].parameters
        assert data["modules"][module]["layout"]["coordinates"].keys() == {str(rank) for rank in layout.ranks}
    assert len(data["communicators"]) == len(plan.communicators)
