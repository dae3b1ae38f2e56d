"""Which of many cases stand in every run of the suite; the others carry the marker `more`."""

from collections.abc import Iterable
from typing import Any

import pytest


def often(cases: Iterable[Any], every: int) -> list[Any]:
    """The first of every `every` cases as they are, the others marked; a case of several values is a tuple."""
    return [case if number % every == 0 else _more(case) for number, case in enumerate(cases)]


def _more(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.more)
