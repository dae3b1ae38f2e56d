"""docs/config.md is what the sections say, and has every key that a config that ships has."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.keys import is_known
from counterpoint.reference.markdown import COMMAND, braced
from tests.unit.reference.configs import ROOT, SHIPPED, read

PAGE = ROOT / "docs" / "config.md"
_HEADING = re.compile(r"^## (.+)$")
_CODE = re.compile(r"`([^`]+)`")
_ROW = re.compile(r"^\| `([^`]+)` \|")
_LINK = re.compile(r"\]\(#([\w-]+)\)")


def unbraced(path: str) -> Iterator[str]:
    """The paths that one with `{a,b}` stands for."""
    before, brace, names = path.partition("{")
    yield from (f"{before}{name}" for name in names.rstrip("}").split(",")) if brace else (path,)


def keys_of(page: str) -> set[str]:
    """The dotted keys of all tables of a page."""
    found: set[str] = set()
    places: list[str] = []
    for line in page.splitlines():
        if heading := _HEADING.match(line):
            places = [path for path in _CODE.findall(heading[1])[:1] or [""]]
        elif line.startswith("Also at "):
            places += [path for code in _CODE.findall(line) for path in unbraced(code)]
        elif row := _ROW.match(line):
            found |= {f"{place}.{row[1]}".removeprefix(".") for place in places}
    return found


def keys_in(value: Any, path: str = "") -> Iterator[str]:
    """The dotted keys of a config's plain data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        below = f"{path}.{name}".removeprefix(".")
        if isinstance(value, dict):
            yield below
        yield from keys_in(inner, below)


def names_of_mappings(key: str) -> bool:
    """Whether the last part of a path is a name that the config gives: of a module, of a layer, of a share."""
    return re.search(r"^modules\.\w+$|\.model\.layers\.[A-Z]$|\.synthetic\.(modules|without)\.\w+$", key) is not None


def test_the_page_is_fresh() -> None:
    # In a process of its own, since other tests register kinds.
    command = [sys.executable, "-m", "counterpoint.cli", "schema", "--markdown"]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert PAGE.read_text() == written, f"docs/config.md is stale; run: {COMMAND}"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_key_of_a_config_stands_there(file: Path) -> None:
    known = keys_of(PAGE.read_text())
    asked = [key for key in keys_in(read(file)) if not names_of_mappings(key)]
    assert len(asked) > 20
    assert [key for key in asked if not is_known(key, known)] == []


def test_links_lead_to_headings() -> None:
    page = PAGE.read_text()
    anchors = {
        re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
        for line in page.splitlines()
        if (heading := _HEADING.match(line))
    }
    links = _LINK.findall(page)
    assert len(links) > 50
    assert set(links) <= anchors
    assert len(re.findall("^## ", page, re.MULTILINE)) == len(anchors)


def test_paths_that_differ_in_their_last_name_are_one() -> None:
    paths = ["a.b", "a.c", "d.b", "e"]
    assert braced(paths) == ["a.{b,c}", "d.b", "e"]
    assert [path for one in braced(paths) for path in unbraced(one)] == paths
