"""The command `plan`: what it prints and writes."""

import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from counterpoint import costs
from counterpoint.costs.file import write_hardware
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


def test_hardware_adds_an_estimate_a_page_and_a_trace(tmp_path: Path) -> None:
    console, html, trace = _console(), tmp_path / "plan.html", tmp_path / "trace.json"
    config = EXAMPLES / "pair_1b.yaml"
    show_plan(
        config, [], html=html, json_file=None, rank=None, console=console, hardware="h200", trace=trace
    )  # fmt: skip
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Estimate  on H200, measured" in text
    assert "model FLOP utilisation" in " ".join(text.split())
    assert "milliseconds" in Page(html.read_text()).text
    events = json.loads(trace.read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert names == ["rank 0", "rank 1", "ranks 2-3"]
    slices = [event for event in events if event["ph"] == "X" and event["cat"] == "language"]
    assert [event["name"] for event in slices[:2]] == ["language.0F0", "language.0B0"]
    assert all(event["dur"] > 0 for event in slices)
    for thread in {event["tid"] for event in events}:
        spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == thread]
        assert all(before[1] <= after[0] + 1e-3 for before, after in pairwise(spans))
    assert {event["ph"] for event in events} == {"M", "X", "b", "e", "C"}
    opened = {event["id"]: event["ts"] for event in events if event["ph"] == "b"}
    closed = {event["id"]: event["ts"] for event in events if event["ph"] == "e"}
    assert opened.keys() == closed.keys()
    assert all(closed[key] >= opened[key] for key in opened)


def test_a_trace_needs_hardware_and_hardware_a_name(tmp_path: Path) -> None:
    config, trace = EXAMPLES / "language_only.yaml", tmp_path / "trace.json"
    with pytest.raises(InputError, match=r"--trace .*got no hardware"):
        show_plan(config, [], html=None, json_file=None, rank=None, console=_console(), trace=trace)
    with pytest.raises(InputError, match="got 'H3000'"):
        show_plan(config, [], html=None, json_file=None, rank=None, console=_console(), hardware="H3000")
    assert not trace.exists()


def test_what_does_not_fit_the_hardware_is_said_and_written(tmp_path: Path) -> None:
    data, tight = tmp_path / "plan.json", tmp_path / "tight.json"

    def show(hardware: str) -> tuple[str, dict[str, Any]]:
        console, config = _console(), EXAMPLES / "pair_1b.yaml"
        show_plan(config, [], html=None, json_file=data, rank=None, console=console, hardware=hardware)
        assert isinstance(console.file, io.StringIO)
        estimated: dict[str, Any] = json.loads(data.read_text())["estimate"]
        return " ".join(console.file.getvalue().split()), estimated

    said, estimated = show("h200")
    assert estimated["fits"]
    assert sum(estimated["ranks"]["0"]["breakdown"]["computes"].values()) > 0
    assert "does not fit" not in said
    write_hardware(tight, replace(costs.load("h200"), name="Tight", memory_bytes=estimated["memory_bytes"] - 1))
    said, estimated = show(str(tight))
    assert not estimated["fits"]
    assert re.search(
        r"It does not fit: the fullest rank needs [\d.]+ GiB of .* a rank of Tight has; use more ranks", said
    )
