"""Distributions that are installed for one test, and registries that forget what a test loads."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from counterpoint.families import FAMILIES
from counterpoint.layers import LAYERS
from counterpoint.losses import LOSSES
from counterpoint.modalities import MODALITIES
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.rates import LEARNING_RATES
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.plugins import load
from counterpoint.projectors import PROJECTORS
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.metric import METRICS
from counterpoint.sources import SOURCES

Install = Callable[..., None]

_REGISTRIES = (
    FAMILIES, LAYERS, PROJECTORS, MODALITIES, SOURCES, OPTIMIZERS, LOSSES, SCHEDULES, LEARNING_RATES, RECORDERS,
    METRICS,
)  # fmt: skip


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution of one module; what is loaded of it is forgotten after the test."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(load, "_LOADED", {})
    for registry in _REGISTRIES:
        monkeypatch.setattr(registry, "_kinds", dict(registry.items()))
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
