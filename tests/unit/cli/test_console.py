"""What is said stands on the terminal as it is: no part of a path, a sentence or an answer is taken for markup."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.console import console, say
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.terminal import Terminal
from tests.unit.structure.sources import trees

RUN = Recording(folder=Path("run"), steps=3, goes_on=False)
WORDS = "data/emoji:train: [red]3[/red] of a :cat: [/x] 12:smile:"

WRITERS: dict[str, Callable[[str], None]] = {
    "stdout": lambda words: console().print(words),
    "stderr": lambda words: console(stderr=True).print(words),
    "a line": say,
    "beside a bar": lambda words: Terminal(RUN).record(Record(step=0, words=words, of_step=False)),
    "a step": lambda words: Terminal(RUN).record(Record(step=1, words=words)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_words_stand_as_they_are(writer: str, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS[writer](WORDS)
    written = capsys.readouterr()
    assert WORDS in written.out + written.err


def test_nobody_else_makes_a_console() -> None:
    assert [name for name, tree in trees().items() if _makes_one(tree)] == ["console"]


def _makes_one(tree: ast.Module) -> bool:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(func, ast.Name) and func.id == "Console" for func in calls)
