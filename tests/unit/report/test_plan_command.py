"""The command `plan`: what it prints and writes."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint.errors import InputError
from counterpoint.report.plan_command import show_plan
from tests.unit.report.pages import EXAMPLES, Page


def _console() -> Console:
    return Console(file=io.StringIO(), width=100, soft_wrap=True, highlight=False)


def test_it_prints_and_writes_both_files(tmp_path: Path) -> None:
    console, html, data = _console(), tmp_path / "new" / "plan.html", tmp_path / "plan.json"
    config = EXAMPLES / "synthetic_disjoint.yaml"
    show_plan(config, ["schedule.microbatches=3"], html=html, json_file=data, rank=None, console=console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "rows delivered once each" in " ".join(text.split())
    assert "3 microbatches" in text
    assert f"page: {html}" in text.replace("\n", "")
    assert "3 microbatches" in Page(html.read_text()).text
    assert json.loads(data.read_text())["schedule"]["microbatches"] == 3
    assert max(len(line) for line in text.splitlines() if not line.startswith(("page", "data"))) <= 100


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--html .*cannot be written"):
        show_plan(EXAMPLES / "language_only.yaml", [], html=tmp_path, json_file=None, rank=None, console=_console())
