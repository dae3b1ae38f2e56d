"""Every fault of the script names its rank and its action; the cheapest of each way to find it out in every run."""

from pathlib import Path

import pytest

from counterpoint.errors import HangError
from tests.distributed.faults.cases import SAID
from tests.distributed.faults.table import run

ALWAYS = ("exit", "killed in an evaluation", "loop in the encoder")
"""One that leaves with a code, one that is killed, and one that all others wait for."""

SLOWNESS = 10
"""So many times slower a machine may be."""

CASES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.more) for name in SAID]


@pytest.mark.parametrize("name", CASES)
def test_a_fault_names_its_rank_and_its_action(tmp_path: Path, name: str) -> None:
    outcome = run(name, tmp_path / "first", timeout_seconds=5)
    if outcome.code == HangError.exit_code and not outcome.is_right(SAID[name]):
        # On a machine with much other load, what no fault is in may take longer than such a limit as well.
        outcome = run(name, tmp_path / "second", timeout_seconds=5, slowness=SLOWNESS)
    assert outcome.is_right(SAID[name]), outcome
