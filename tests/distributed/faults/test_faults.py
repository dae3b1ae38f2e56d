"""Every fault of the script names its rank and its action; the cheapest of each way to find it out in every run."""

from pathlib import Path

import pytest

from tests.distributed.faults.cases import SAID
from tests.distributed.faults.table import run

ALWAYS = ("exit", "killed in an evaluation", "loop in the encoder")
"""One that leaves with a code, one that is killed, and one that all others wait for."""

CASES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.more) for name in SAID]


@pytest.mark.parametrize("name", CASES)
def test_a_fault_names_its_rank_and_its_action(tmp_path: Path, name: str) -> None:
    outcome = run(name, tmp_path, timeout_seconds=5)
    assert outcome.is_right(SAID[name]), outcome
