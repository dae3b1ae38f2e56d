"""Runs in Weights & Biases and MLflow, offline: their numbers, and the same run after a resume."""

import importlib.util
import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.training import LogConfig
from counterpoint.errors import ConfigError
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.identity import RECORDERS_FILE
from counterpoint.recorders.kind import Record, RecorderKind, Recording
from counterpoint.recorders.opened import open_recorders
from counterpoint.setup.run import check_recorders
from tests.parity.layouts import named_config, override

_BLOCK, _FULL, _LAST = 2**15, 1, 4
CONFIG = {"training": {"steps": 4}, "modules": {"language": {"layout": {"tp": 2}}}, "world": {"size": 2}}


def needing(extra: str) -> pytest.MarkDecorator:
    is_there = all(importlib.util.find_spec(module) for module in RECORDERS[extra].needs)
    return pytest.mark.skipif(not is_there, reason=f"the extra {extra} is not installed: pip install -e '.[{extra}]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No server is asked for anything; what these libraries are warned of is theirs."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def start(
    folder: Path, section: dict[str, Any], steps: range, *, goes_on: bool = True, is_finished: bool = True
) -> str:
    """A start of a run that records some steps; returns what was said."""
    said: list[str] = []
    sections = LogConfig.model_validate({"recorders": [section]}).recorders
    recording = Recording(folder=folder, steps=4, goes_on=goes_on, config=CONFIG)
    recorders = open_recorders(sections, recording, said.append)
    for step in steps:
        for recorder in recorders:
            recorder.record(Record(step=step, values={"loss": 10.0 - step, "modules": {"language": {"lr": 0.5}}}))
    for recorder in recorders:
        recorder.record(Record(step=steps[-1], values={"evaluation": "/tmp//held out:part", "loss": 0.5}))
        recorder.close(is_finished)
    return "\n".join(said)


def identity(folder: Path, name: str) -> str:
    return str(json.loads((folder / RECORDERS_FILE).read_text())[name])


@needing("mlflow")
def test_mlflow_has_one_run_with_the_config_and_every_number(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    section = {"kind": "mlflow", "experiment": "captions"}
    assert start(tmp_path, section, range(1, 4), is_finished=False) == ""
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    first = client.get_run(identity(tmp_path, "mlflow"))
    assert first.info.status == "KILLED"
    # Step 3 is trained again from a checkpoint of step 2.
    assert start(tmp_path, section, range(3, 5)) == ""
    again = client.get_run(identity(tmp_path, "mlflow"))
    assert (again.info.run_id, again.info.status) == (first.info.run_id, "FINISHED")
    assert (again.info.run_name, again.data.params) == (
        tmp_path.name, {"training.steps": "4", "modules.language.layout.tp": "2", "world.size": "2"},
    )  # fmt: skip
    assert again.data.metrics.keys() == {"loss", "modules/language/lr", "evaluation/tmp/held out:part/loss"}
    history = sorted((one.step, one.value) for one in client.get_metric_history(again.info.run_id, "loss"))
    assert history == [(1, 9.0), (2, 8.0), (3, 7.0), (3, 7.0), (4, 6.0)]
    # A run that starts anew is another one.
    assert start(tmp_path, section, range(1, 2), goes_on=False) == ""
    assert identity(tmp_path, "mlflow") != first.info.run_id
    assert len(client.search_runs([first.info.experiment_id])) == 2


@needing("mlflow")
def test_a_run_that_mlflow_has_no_more_begins_anew(tmp_path: Path) -> None:
    (tmp_path / RECORDERS_FILE).write_text('{"mlflow": "0123456789abcdef0123456789abcdef", "wandb": "kept"}')
    assert start(tmp_path, {"kind": "mlflow", "experiment": "captions"}, range(1, 2)) == ""
    assert identity(tmp_path, "mlflow") != "0123456789abcdef0123456789abcdef"
    assert identity(tmp_path, "wandb") == "kept"


@needing("mlflow")
def test_a_store_that_cannot_be_reached_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    said = start(tmp_path, {"kind": "mlflow", "experiment": "captions"}, range(1, 2))
    assert said.startswith("mlflow: ")
    assert said.endswith("; not all is recorded there, training goes on")


@needing("wandb")
def test_weights_and_biases_has_one_run_with_every_number(tmp_path: Path) -> None:
    section = {"kind": "wandb", "project": "captions", "tags": ["a", "b"]}
    for steps, goes_on in ((range(1, 4), True), (range(3, 5), True), (range(1, 2), False)):
        said = start(tmp_path, section, steps, goes_on=goes_on)
        assert said.startswith(f"W&B run: {tmp_path}/wandb/offline-run-"), said
        assert said.count("\n") == 0
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    stored = [_stored(file) for file in files]
    assert [one["id"] for one in stored] == [stored[0]["id"]] * 2 + [identity(tmp_path, "wandb")]
    assert stored[0]["id"] != stored[2]["id"]
    assert {(one["project"], one["name"], one["tags"]) for one in stored} == {("captions", tmp_path.name, ("a", "b"))}
    assert [(row["step"], row["loss"]) for row in stored[1]["rows"] if "loss" in row] == [(3, 7.0), (4, 6.0)]
    assert stored[1]["rows"][-1] == {"step": 4, "evaluation//tmp//held out:part/loss": 0.5}
    assert stored[0]["config"]["modules"] == CONFIG["modules"]


def _stored(file: Path) -> dict[str, Any]:
    """What an offline run is to send once there is a server."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {"rows": []}
    for data in _entries(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
            found |= {"id": run.run_id, "project": run.project, "name": run.display_name, "tags": tuple(run.tags)}
            found["config"] = config
        elif record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found["rows"].append({key: value for key, value in row.items() if not key.startswith("_")})
    return found


def _entries(data: bytes) -> Iterator[bytes]:
    """The entries of a log in LevelDB's format: blocks of 32 KiB of pieces, each behind checksum, length and type."""
    position, entry = 7, b""
    while position + 7 <= len(data):
        if (left := _BLOCK - position % _BLOCK) < 7:
            position += left
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, position)
        entry += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (_FULL, _LAST):
            yield entry
            entry = b""


def test_a_recorder_whose_library_is_missing_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    base = named_config("dp2_to_tp2")
    kind = RecorderKind(
        section=RECORDERS["wandb"].section, open_with="nothing:at_all", needs=("json", "no_such_library"),
        install="pip install 'counterpoint[wandb]'",
    )  # fmt: skip
    monkeypatch.setattr(RECORDERS, "_kinds", dict(RECORDERS.items()) | {"wandb": kind})
    config = override(base, {"log.recorders": [{"kind": "csv"}, {"kind": "wandb", "project": "x"}]})
    with pytest.raises(ConfigError) as refused:
        check_recorders(config)
    assert str(refused.value) == (
        'log.recorders.1.kind: got "wandb" without the package no_such_library, expected it to be installed; '
        "pip install 'counterpoint[wandb]', or remove the recorder"
    )
    check_recorders(override(base, {"log.recorders": [{"kind": "csv"}]}))


def test_an_address_with_credentials_is_refused_and_not_said() -> None:
    data = named_config("dp2_to_tp2").resolved()
    data["log"]["recorders"] = [{"kind": "mlflow", "experiment": "x", "tracking_uri": "https://me:hush@host/path"}]
    with pytest.raises(ConfigError) as refused:
        load_config(data)
    assert "expected an address without user and password" in str(refused.value)
    assert "hush" not in str(refused.value)
