"""What a run folder and its checkpoints say of plug-ins, and what a run is told that has others."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from torch.distributed.checkpoint.metadata import Metadata

from counterpoint.config.load import load_config
from counterpoint.data.fingerprint import DataIdentity
from counterpoint.errors import CheckpointError, InputError
from counterpoint.report.run_record import read_plan
from counterpoint.setup.data import identity_of
from counterpoint.setup.run import build_plan
from counterpoint.setup.run_folder import open_run_folder
from counterpoint.train.state.checkpoint import OpenedCheckpoint, TrainingState
from counterpoint.train.state.resume import check_data, other_versions
from tests.unit.plugins.conftest import Install
from tests.unit.plugins.test_load import EXAMPLE, GAINS, LAYER

DATA: dict[str, str | int | float | bool | None] = {"data.packing": True}


def _opened(**plugins: str) -> OpenedCheckpoint:
    state = TrainingState(seed=0, data_step=1, optimizer_step=1, data=DATA, plugins=plugins)
    return OpenedCheckpoint(Path("step-1"), None, Metadata({}), json.dumps(asdict(state)).encode(), "")


def test_a_run_goes_on_with_the_plugins_of_its_checkpoint() -> None:
    assert check_data(_opened(), DataIdentity(0, DATA, {"new": "1.0"})).plugins == {}
    assert check_data(_opened(a="1.0"), DataIdentity(0, DATA, {"a": "1.1", "new": "1.0"})).plugins == {"a": "1.0"}


def test_a_run_without_one_of_them_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        check_data(_opened(a="1.0", b="2.0"), DataIdentity(0, DATA, {"a": "1.0"}))
    assert isinstance(caught.value, CheckpointError)
    assert str(caught.value).startswith("step-1: it was written with the plug-in b 2.0, got run.plugins without it, ")
    assert "add it to run.plugins, restore it, choose another run.dir" in str(caught.value)


def test_another_version_is_said() -> None:
    assert other_versions({"a": "1.0"}, {"a": "1.0", "new": "1.0"}) is None
    said = other_versions({"a": "1.0", "b": "2.0"}, {"a": "1.0", "b": "2.1"})
    assert said == "the checkpoint was written with other versions of plug-ins: b 2.0 (here 2.1)"


def test_the_folder_says_versions_and_is_reported_without_the_plugin(install: Install, tmp_path: Path) -> None:
    install("brought-gain", LAYER.replace("KIND", "gain"))
    run = tmp_path / "run"
    keys = [f"run.dir={run}", "run.plugins=[brought-gain]", "world.size=1", "modules.language.layout={tp: 1}", *GAINS]
    config = load_config(EXAMPLE, keys)
    assert identity_of(config).plugins == {"brought-gain": "1.0"}
    plan = build_plan(config)
    open_run_folder(config, plan)
    assert json.loads((run / "versions.json").read_text())["brought-gain"] == "1.0"
    assert read_plan(run) == plan
    code = (
        f"import sys; sys.path[:0] = {[one for one in sys.path if 'site-packages' not in one or '.venv' in one]!r}\n"
        "from pathlib import Path\nfrom counterpoint.report.training import write_report\n"
        f"write_report(Path({str(run)!r}))\nsys.exit('brought_gain' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    page = (run / "report.html").read_text()
    assert "brought-gain 1.0" in page
    assert "kind: gain" in page
    # The plan is drawn, though nothing here could build it.
    assert "language" in page.partition("Placement")[2]


def test_a_plan_that_is_no_longer_read_is_none(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    (tmp_path / "plan.json").write_text('{"placement": 3}')
    assert read_plan(tmp_path) is None
