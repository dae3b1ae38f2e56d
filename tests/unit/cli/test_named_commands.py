"""Every command that the docs, examples and recipes name exists and takes the options that it is given there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from counterpoint.cli import app

ROOT = Path(__file__).parents[3]
FOLDERS = ("examples/*.yaml", "examples/*.py", "recipes/**/*.yaml", "*.md", "docs/*.md", "Makefile")
_COMMAND = r"counterpoint (?P<line>[a-z][^`\n&|;#>]*)"
_QUOTED = re.compile(rf"`(?:\S+/)?{_COMMAND}`")
_LINE = re.compile(rf"^[#$ ]*(?:[A-Z][a-z]+: +)?(?:[\w.@()$/]+/)?{_COMMAND}", re.MULTILINE)
_AFTER = re.compile(rf"&& *(?:\S+/)?{_COMMAND}")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def named() -> Iterator[tuple[str, str]]:
    """The files with the command lines that stand in them, from the command's own name on."""
    for path in sorted(path for pattern in FOLDERS for path in ROOT.glob(pattern)):
        text = path.read_text()
        # A line of prose may begin with our name; a line of a program, or of a comment that says how to run, does not.
        lines = "\n".join(_FENCED.findall(text)) if path.suffix == ".md" else text
        for found in (*_QUOTED.finditer(text), *_LINE.finditer(lines), *_AFTER.finditer(text)):
            yield str(path.relative_to(ROOT)), found["line"].strip()


NAMED = sorted(set(named()))


def parse(line: str) -> None:
    """Raise what typer says of a command line; a name alone need only exist."""
    name, *arguments = line.split()
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    if arguments:
        command.make_context(name, ["1" if word == "N" else word for word in arguments if word != "..."])


@pytest.mark.parametrize(("file", "line"), NAMED)
def test_a_command_that_is_named_exists(file: str, line: str) -> None:
    parse(line)


def test_commands_are_found_where_they_stand() -> None:
    files = {file for file, _line in NAMED}
    assert files >= {"README.md", "examples/emoji.yaml", "recipes/nemotron6-moe-vlm-20l.yaml", "docs/trainings.md"}


@pytest.mark.parametrize("line", ["prepare llava", "prepares emoji data", "train x.yaml --nodes 2"])
def test_what_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"prepares|Missing (argument|parameter)|No such option"):
        parse(line)
