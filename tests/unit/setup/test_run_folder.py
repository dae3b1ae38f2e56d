"""A run folder belongs to one run at a time."""

from pathlib import Path

import pytest

from counterpoint.errors import DataError
from counterpoint.setup.run_folder import lock_run_folder


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with lock_run_folder(tmp_path), pytest.raises(DataError, match="is in use by another run"):
        lock_run_folder(tmp_path)
    lock_run_folder(tmp_path).close()
