"""The progress bar fits its terminal; without one there is a line per report."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.terminal import Terminal

RECORDING = Recording(Path("run"), 700, goes_on=False)
WORDS = "loss 5.1234  1,234,567 tokens/s  norm 1.234  bubble 25 %  imbalance 1.07"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_bar_stays_beside_its_words(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    view = Terminal(RECORDING, console)
    view.record(Record(step=350, words=WORDS))
    view.close()
    shown = re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "", out.getvalue())
    lines = [line for line in re.split(r"[\r\n]", shown) if "350/700" in line]
    assert lines
    assert "\u2501" * 5 in lines[-1], "the bar is there"
    assert "loss 5" in lines[-1]
    assert (WORDS in lines[-1]) == (width == 200)
    assert len(lines[-1]) <= width


def test_elsewhere_a_report_is_a_line() -> None:
    out = io.StringIO()
    view = Terminal(RECORDING, Console(file=out, width=80))
    view.record(Record(step=349))
    view.record(Record(step=350, words=WORDS))
    view.close()
    assert out.getvalue() == f"step 350/700  {WORDS}\n"
