"""The example of a plug-in is somebody else's package: public names alone, whole types, and what configs say of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import counterpoint.extend
import counterpoint.extend.data
import counterpoint.extend.models

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugin"
SOURCES = sorted((EXAMPLE / "src").rglob("*.py"))
PUBLIC = {
    "counterpoint.extend": set(counterpoint.extend.__all__),
    "counterpoint.extend.data": set(counterpoint.extend.data.__all__),
    "counterpoint.extend.models": set(counterpoint.extend.models.__all__),
}


def _imported(file: Path) -> Iterator[tuple[str, str]]:
    """What a file has of ours: modules, and names in them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "counterpoint":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names if one.name.split(".")[0] == "counterpoint")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: "-".join(file.parts[-2:]))
def test_it_takes_public_names_only(file: Path) -> None:
    assert [(module, name) for module, name in _imported(file) if name not in PUBLIC.get(module, set())] == []


def test_specs_load_no_torch() -> None:
    torch = [
        file for file in SOURCES if file.name == "spec.py" and "torch" in file.read_text().replace("before torch", "")
    ]
    assert SOURCES
    assert torch == []


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_all_that_is_public_is_there(module: str) -> None:
    home = {"counterpoint.extend": counterpoint.extend, "counterpoint.extend.data": counterpoint.extend.data,
            "counterpoint.extend.models": counterpoint.extend.models}[module]  # fmt: skip
    assert sorted(home.__all__) == sorted(set(home.__all__))
    assert [name for name in home.__all__ if name not in vars(home)] == []
