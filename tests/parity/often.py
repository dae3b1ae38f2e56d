"""Which of many cases stand in every run of the suite; the others carry the marker `more`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def often(cases: Iterable[Any], every: int) -> list[Any]:
    """The first of every `every` cases as they are, the others marked; a case of several values is a tuple."""
    return [case if number % every == 0 else _more(case) for number, case in enumerate(cases)]


def often_unless(cases: Iterable[str], covered: Mapping[str, str]) -> list[Any]:
    """Cases as they are, but marked those that another one, which is in every run, covers; `covered` says which."""
    names = list(cases)
    assert covered.keys() <= set(names), f"{covered.keys() - set(names)} are no cases"
    assert not covered.keys() & set(covered.values()), f"{covered.keys() & set(covered.values())} cover, but are marked"
    return [_more(name) if name in covered else name for name in names]


def _more(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.more)
