"""The wheel has the whole package and nothing else, and the source distribution builds the same wheel."""

import sys
import tomllib
from email import message_from_bytes
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.distribution import ROOT, Distributions, build_wheel, contents
from tests.unit.structure.sources import outside, trees

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"counterpoint-{PROJECT['version']}.dist-info"
BROUGHT_BY = {"mlflow": "mlflow-skinny", "pydantic_core": "pydantic", "triton": "torch"}
"""Distributions of packages that have other names, where these need not be installed or are not named."""


@pytest.fixture(scope="module")
def wheel(distributions: Distributions) -> dict[str, bytes]:
    return contents(distributions.wheel)


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    return message_from_bytes(wheel[f"{INFO}/METADATA"])


def test_the_wheel_is_the_package_and_its_metadata(wheel: dict[str, bytes]) -> None:
    package = ROOT / "src" / "counterpoint"
    files = {f"counterpoint/{file.relative_to(package)}": file for file in package.rglob("*") if file.is_file()}
    expected = {name: file.read_bytes() for name, file in files.items() if "__pycache__" not in name}
    assert {name: data for name, data in wheel.items() if not name.startswith(INFO)} == expected
    assert "counterpoint/py.typed" in expected
    assert {name.removeprefix(f"{INFO}/") for name in wheel.keys() - expected.keys()} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt",
    }  # fmt: skip


def test_the_source_distribution_builds_the_same_wheel(
    distributions: Distributions, wheel: dict[str, bytes], tmp_path: Path
) -> None:
    assert contents(build_wheel(distributions.unpacked, tmp_path)) == wheel


def test_the_source_distribution_has_what_a_user_needs(distributions: Distributions) -> None:
    folder = distributions.unpacked
    for name in ("LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md", "docs", "examples", "recipes"):
        here, there = ROOT / name, folder / name
        files = [here] if here.is_file() else [f for f in here.rglob("*") if f.is_file() and f.suffix != ".pyc"]
        assert files, name
        for file in files:
            assert (there / file.relative_to(here)).read_bytes() == file.read_bytes(), file
    assert not (folder / "tests").exists()
    assert not (folder / "benchmarks").exists()


def test_license_and_interpreters(metadata: Message, wheel: dict[str, bytes]) -> None:
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert b"Apache License\n                           Version 2.0" in wheel[f"{INFO}/licenses/LICENSE"]
    assert metadata["Author"] == "counterpoint maintainers"
    named = [c.removeprefix("Programming Language :: Python :: ") for c in metadata.get_all("Classifier", [])]
    interpreters = [version for version in named if version.startswith("3.")]
    assert interpreters == ["3.11", "3.12", "3.13"]
    assert set(SpecifierSet(metadata["Requires-Python"]).filter(["3.10", *interpreters])) == set(interpreters)
    assert "Typing :: Typed" in named


def test_what_the_package_imports_is_required(metadata: Message) -> None:
    """By the package itself or by an extra."""
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    required = {requirement.name.lower().replace("_", "-") for requirement in requirements}
    brought = {name: {d.lower().replace("_", "-") for d in found} for name, found in packages_distributions().items()}
    imported = set().union(*(outside(tree) for tree in trees().values())) - set(sys.stdlib_module_names)
    assert {"numpy", "yaml", "PIL"} <= imported
    homes = {name: {BROUGHT_BY.get(name, name)} | brought.get(name, set()) for name in imported}
    assert {name for name, distributions in homes.items() if not distributions & required} == set()
    assert set(metadata.get_all("Provides-Extra", [])) == PROJECT["optional-dependencies"].keys()
