"""Distributions that are installed for one test, and registries that forget what a test loads."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from counterpoint.plugins import load
from counterpoint.plugins.plugin import REGISTRIES

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution of one module; what is loaded of it is forgotten after the test."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(load, "_IMPORTED", {})
    monkeypatch.setattr(load, "_REGISTERED", [])
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_kinds", dict(registry.items()))
        monkeypatch.setattr(registry, "_hidden", {})
    before = set(sys.modules)

    def add(name: str, code: str, *, version: str = "1.0", points: str = "here = {module}:PLUGIN") -> None:
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(code)
        folder = site / f"{module}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[{load.GROUP}]\n{points.format(module=module)}\n" if points else "")

    yield add
    for module in set(sys.modules) - before:
        if module.startswith("brought"):
            del sys.modules[module]
