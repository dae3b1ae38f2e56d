"""The progress of a preparation, on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from counterpoint.data.prepare import progress
from counterpoint.data.prepare.job import Tick


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_rows_megabytes_and_bad_ones(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=is_terminal, width=100)
    monkeypatch.setattr(progress, "console", lambda **_options: terminal)
    with progress.ProgressBar() as bar:
        for tick in (Tick(known=4, shards=1), Tick(1200, 3_000_000, 0), Tick(34, 4_000_000, 5, 1)):
            bar.watch(tick)
    assert ("1,234 rows, 7 MB, 5 left out" in written.getvalue()) == is_terminal
    assert is_terminal or written.getvalue() == ""
