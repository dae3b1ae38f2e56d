"""Groups of parameters: what holds for each, and who is in which."""

from typing import Any

import pytest
from pydantic import ValidationError

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.groups import OTHERS, group_number, parameter_groups, patterns_of
from counterpoint.verify.rules import rules_for


def section(*groups: dict[str, Any]) -> AdamWSection:
    return AdamWSection(lr=0.1, betas=(0.5, 0.6), weight_decay=0.2, no_decay=("x",), groups=groups)  # type: ignore[arg-type]


def test_a_group_overrides_what_it_says_and_nothing_else() -> None:
    own = {"match": "b.*", "lr": 0.3, "weight_decay": 0.0, "schedule": {"kind": "linear"}}
    first, second, others = parameter_groups(section({"match": "a.*", "betas": [0.7, 0.8]}, own))
    plain = section()
    assert (first.name, second.name, others.name) == ("a.*", "b.*", OTHERS)
    assert first.section == plain.model_copy(update={"betas": (0.7, 0.8)})
    assert others.section == plain
    changed = {"lr": 0.3, "weight_decay": 0.0, "schedule": second.section.schedule}
    assert second.section == plain.model_copy(update=changed)
    assert second.section.schedule.kind == "linear"


@pytest.mark.parametrize(("name", "number"), [("a.b", 0), ("b.a", 1), ("a.c.b", 0), ("c", 2), ("A.c", 2)])
def test_the_first_pattern_that_fits_wins(name: str, number: int) -> None:
    grouped = section({"match": "a.*", "lr": 1.0}, {"match": "?.*[ab]", "lr": 2.0})
    assert group_number(patterns_of(grouped), name) == number
    # As the reference of `verify` says it.
    group, holds = rules_for(grouped, name)
    assert group == ("a.*", "?.*[ab]", "")[number]
    assert holds.lr == (1.0, 2.0, 0.1)[number]


def test_without_groups_all_are_others() -> None:
    (others,) = parameter_groups(section())
    assert others.section == section()
    assert group_number((), "any") == 0


@pytest.mark.parametrize("key", ["eps", "no_decay", "kind", "groups"])
def test_other_keys_are_the_modules(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        section({"match": "a", key: None})
