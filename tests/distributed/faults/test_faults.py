"""Every fault of the script names its rank and its action; three of them are part of other tests in every run."""

from pathlib import Path

import pytest

from tests.distributed.faults.cases import SAID
from tests.distributed.faults.table import run


@pytest.mark.more
@pytest.mark.parametrize("name", SAID)
def test_a_fault_names_its_rank_and_its_action(tmp_path: Path, name: str) -> None:
    outcome = run(name, tmp_path)
    assert outcome.is_right(SAID[name]), outcome
