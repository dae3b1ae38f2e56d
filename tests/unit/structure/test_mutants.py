"""Planted faults keep their places as code moves: what each replaces is there, and so are the tests that it names."""

import ast
from functools import cache

import pytest

from tests.mutation.mutant import Mutant, StaleError
from tests.mutation.mutants import MUTANTS
from tests.mutation.run import PACKAGE, ROOT


@cache
def _source(module: str) -> str:
    return (ROOT / PACKAGE / (module.replace(".", "/") + ".py")).read_text()


@cache
def _functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _is_there(test: str) -> bool:
    """Whether a file or folder is there, or a function of a file."""
    file, _, function = test.partition("::")
    return (ROOT / file).exists() and (not function or function.partition("[")[0] in _functions(file))


def test_every_fault_has_its_place() -> None:
    stale = []
    for mutant in MUTANTS:
        try:
            mutant.apply(_source(mutant.module))
        except (StaleError, FileNotFoundError) as error:
            stale.append(f"{mutant.name}: {error}")
    assert stale == []


def test_no_fault_is_planted_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60


def test_every_test_that_should_notice_is_there() -> None:
    named = {test for mutant in MUTANTS for test in (*mutant.tests, *mutant.ranks)}
    assert sorted(test for test in named if not _is_there(test)) == []


def test_a_fault_without_a_place_is_seen() -> None:
    with pytest.raises(StaleError, match=r"plan\.route:gone is defined 0 times"):
        Mutant("plan.route:gone", "a", "b", ()).apply(_source("plan.route"))
    with pytest.raises(StaleError, match="0 times, expected once"):
        Mutant("plan.route:owned", "no such text", "b", ()).apply(_source("plan.route"))
    assert not _is_there("tests/unit/gone.py")
    assert not _is_there("tests/parity/test_speech.py::test_gone[case]")
