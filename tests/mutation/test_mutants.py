"""The faults of docs/mutations.md, run when somebody asks for sweeps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.mutants import MUTANTS
from tests.mutation.run import ROOT


@pytest.mark.sweep
def test_faults_are_caught(tmp_path: Path) -> None:
    results = tmp_path / "mutations.json"
    command = [sys.executable, "-m", "tests.mutation", "--unit", "--ranks", "--results", str(results)]
    subprocess.run(command, cwd=ROOT, check=True)
    outcomes = [one["outcome"] for one in json.loads(results.read_text()).values()]
    assert sum(outcome in ("caught", "timed out") for outcome in outcomes) >= 0.95 * len(MUTANTS)
