"""The installed wheel is used from another folder than the sources'."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.distribution import ROOT, Installed

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with one config."""
    shutil.copy(ROOT / "examples" / "synthetic_disjoint.yaml", tmp_path)
    return tmp_path


def test_the_package_is_that_of_the_wheel(installed: Installed, folder: Path) -> None:
    code = "import counterpoint, importlib.metadata as m; print(counterpoint.__file__, m.version('counterpoint'))"
    ended = installed.run("python", "-c", code, cwd=folder)
    file, version = ended.stdout.split()
    assert Path(file).is_relative_to(installed.folder)
    assert version == VERSION


def test_help_names_the_commands(installed: Installed, folder: Path) -> None:
    ended = installed.run("counterpoint", "--help", cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all(f"  {name} " in ended.stdout for name in ("prepare", "plan", "train", "verify", "report"))


def test_keys_are_described_by_the_sources_in_the_wheel(installed: Installed, folder: Path) -> None:
    ended = installed.run("counterpoint", "schema", "--markdown", cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (ROOT / "docs" / "config.md").read_text()


def test_an_example_is_planned(installed: Installed, folder: Path) -> None:
    ended = installed.run(
        "counterpoint", "plan", "synthetic_disjoint.yaml", "--html", "plan.html", "--json", "plan.json", cwd=folder
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "proved: " in ended.stdout
    assert {file.name for file in folder.iterdir()} == {"synthetic_disjoint.yaml", "plan.html", "plan.json"}
