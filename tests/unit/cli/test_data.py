"""The commands `data info`, `lint` and `preview`: what they print and how they end."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import COLOURS, Command


def test_info_says_what_is_there(counterpoint: Command, pictures: Path) -> None:
    ended = counterpoint("data", "info", pictures)
    assert (ended.code, ended.err) == (0, "")
    assert "documents: 8 (held_out 4, train 4)" in ended.out
    assert "image: width" in ended.out
    found = json.loads(counterpoint("data", "info", pictures, "--json", "--sequence-tokens", 3).out)
    assert found["splits"] == {"train": 4, "held_out": 4}
    assert found["items"]["image"]["sizes"]["height"]["largest"] == 8
    assert found["fit"]["train"] == {"shortened": 4, "words": "4 of 4 documents have more than 3 tokens of text"}


def test_lint_ends_with_three_for_findings(counterpoint: Command, pictures: Path) -> None:
    ended = counterpoint("data", "lint", pictures)
    assert (ended.code, ended.err) == (3, "")
    assert "4 documents of another split that train has, too:" in ended.out
    clean = counterpoint("data", "lint", pictures, "--sample", 1)
    assert (clean.code, clean.out.splitlines()[-1]) == (0, "nothing found")
    found = counterpoint("data", "lint", pictures, "--json")
    assert found.code == 3
    assert json.loads(found.out)["findings"]["leak"]["count"] == len(COLOURS)


def test_a_preview_is_written(counterpoint: Command, pictures: Path, tmp_path: Path) -> None:
    ended = counterpoint("data", "preview", pictures, "-o", tmp_path / "page.html", "--samples", 2, "--split", "train")
    assert (ended.code, ended.out) == (0, f"preview: {tmp_path}/page.html\n")
    assert (tmp_path / "page.html").read_text().count("<img") == 2


@pytest.mark.parametrize("command", ["info", "lint", "preview"])
def test_another_folder_is_refused(counterpoint: Command, tmp_path: Path, command: str) -> None:
    ended = counterpoint("data", command, tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "index.json is missing" in ended.err


def test_a_command_is_expected(counterpoint: Command) -> None:
    ended = counterpoint("data")
    assert (ended.code, ended.err.splitlines()[0]) == (
        2, "error: Missing command; counterpoint --help lists the commands, COMMAND --help its arguments"
    )  # fmt: skip
