"""Somebody else's package, installed beside the project, is planned and equals one process on four ranks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
RUN = EXAMPLE / "run.yaml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the example, from a copy and without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "tree", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    alone = ["--no-build-isolation", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, *alone, "--target", folder / "site", folder / "tree"], check=True)
    return folder / "site"


def _counterpoint(site: Path | None, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # What the environment names stays: dependencies may lie there.
    outside = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    places = [str(ROOT / "src"), *([] if site is None else [str(site)]), *outside]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "counterpoint.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_it_is_planned_and_equals_one_process(installed: Path, tmp_path: Path) -> None:
    planned = _counterpoint(installed, tmp_path, "plan", RUN, "--json", "plan.json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads((tmp_path / "plan.json").read_text())
    verified = _counterpoint(installed, tmp_path, "verify", RUN)
    assert (verified.returncode, "equal to one process" in verified.stdout) == (0, True), (
        verified.stdout + verified.stderr
    )


def test_its_keys_are_in_the_schema_and_described(installed: Path, tmp_path: Path) -> None:
    plugin = ("--plugin", "counterpoint-example-plugin")
    schema = json.loads(_counterpoint(installed, tmp_path, "schema", *plugin).stdout)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(yaml.safe_load(RUN.read_text()))] == []
    keys = ((name, key) for name, section in schema["$defs"].items() for key in section["properties"].items())
    assert [(name, key) for name, (key, said) in keys if not said["description"]] == []
    said = _counterpoint(
        installed, tmp_path, "explain", "modules.tower.model.window", "--kind", "series_tower", *plugin
    )
    assert "Samples of which a row is made." in said.stdout, said.stderr


def test_without_it_the_config_says_what_to_install(tmp_path: Path) -> None:
    ended = _counterpoint(None, tmp_path, "plan", RUN)
    assert ended.returncode == 2
    assert 'run.plugins.0: got "counterpoint-example-plugin", expected an installed distribution' in ended.stderr
    assert "pip install counterpoint-example-plugin" in " ".join(ended.stderr.split())


@pytest.mark.more
def test_random_layouts_of_it_equal_one_process(installed: Path, tmp_path: Path) -> None:
    drawn = _counterpoint(installed, tmp_path, "verify", RUN, "--random", "12", "--world-size", "4")
    assert drawn.returncode == 0, drawn.stdout + drawn.stderr
    assert "12 equal, 0 not" in drawn.stdout
