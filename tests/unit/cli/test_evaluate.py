"""`evaluate`: two splits of one name, documents without a target, images that cannot be read."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from counterpoint.config.data import evaluation_names
from counterpoint.config.load import dump_config, load_config
from counterpoint.inference import evaluate
from counterpoint.inference.evaluate import TrainedRun
from counterpoint.inference.plain import PlainModel
from counterpoint.modalities.images.spec import DEFAULT_SCALING, ImageConfig, ImageIntake
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.cli.conftest import Command, write


@pytest.fixture
def held_out(tmp_path: Path, pictures: Path) -> Path:
    """A dataset whose split `held_out` has a document without a target, a broken image and two good documents."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    good = picture.getvalue()
    with IndexWriter(tmp_path / "other") as writer:
        for image, loss in ((good, True), (good, False), (good, True), (good, True)):
            writer.add(Record([1, 5, 6], [False, loss, loss], "held_out", "red", [Encoded(0, image)]))
        (writer.folder / "tokenizer.json").write_bytes((pictures / "tokenizer.json").read_bytes())
        writer.publish()
    payload = bytearray((tmp_path / "other" / "payload.bin").read_bytes())
    payload[2 * len(good) : 2 * len(good) + 8] = bytes(8)
    (tmp_path / "other" / "payload.bin").write_bytes(payload)
    return tmp_path / "other"


@pytest.fixture
def run(settings: dict[str, Any], held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose model writes nothing, evaluated on two splits of one name."""
    folder = tmp_path / "run"
    checkpoint_folder(folder, 2).mkdir(parents=True)
    settings["data"]["evaluation"].append({"path": str(held_out), "split": "held_out"})
    write(settings, folder / "config.yaml")
    monkeypatch.setattr(PlainModel, "load", lambda *_arguments: None)
    monkeypatch.setattr(evaluate, "write", lambda _model, prompts, *_numbers: [[] for _prompt in prompts])
    return folder


def test_two_splits_of_one_name_are_kept_apart(run: Path, pictures: Path, held_out: Path) -> None:
    found = evaluate.evaluate_run(TrainedRun.open(run))
    assert {name: len(each.rows) for name, each in found.splits.items()} == {
        f"{pictures}:held_out": 4,
        f"{held_out}:held_out": 2,
    }
    assert evaluate.evaluate_run(TrainedRun.open(run), f"{held_out}:held_out").splits.keys() == {f"{held_out}:held_out"}


def test_a_run_of_an_earlier_version_is_read_with_its_pixels(run: Path, settings: dict[str, Any]) -> None:
    image = settings["modules"]["vision"]["model"].pop("image")
    settings["data"] |= {"image": image, "audio": None}
    write(settings, run / "config.yaml")
    opened = TrainedRun.open(run)
    taker = opened.intakes["vision"]
    assert isinstance(taker, ImageIntake)
    image = taker.image
    assert isinstance(image, ImageConfig)
    assert (image.size, image.max_patches) == (8, 4)
    assert image.scaling == DEFAULT_SCALING
    assert sum(len(each.rows) for each in evaluate.evaluate_run(opened).splits.values()) == 6


def test_training_data_may_be_elsewhere(run: Path, settings: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    settings["data"]["train"] = [{"path": str(tmp_path / "nowhere"), "split": "train"}]
    write(settings, run / "config.yaml")
    found = evaluate.evaluate_run(TrainedRun.open(run), f"{pictures}:held_out")
    assert len(found.splits[f"{pictures}:held_out"].rows) == 4


def test_what_was_left_out_is_said(counterpoint: Command, run: Path, held_out: Path) -> None:
    name = f"{held_out}:held_out"
    ended = counterpoint("evaluate", run, "--split", name)
    assert ended.code == 0, ended.err
    assert "left out: 1 without a target and 1 with an unreadable item (the first: document 2: " in ended.out
    record = json.loads((run / "evaluation.json").read_text())
    assert [row["index"] for row in record["splits"][name]] == [0, 3]
    assert record["left_out"][name].startswith("1 without a target")


def test_nothing_is_said_of_a_whole_split(counterpoint: Command, run: Path, pictures: Path) -> None:
    assert "left out" not in counterpoint("evaluate", run, "--split", f"{pictures}:held_out").out


def test_an_unknown_split(counterpoint: Command, run: Path, pictures: Path) -> None:
    ended = counterpoint("evaluate", run, "--split", "held_out")
    assert ended.code == 2
    assert f"{pictures}:held_out" in ended.err


def test_a_run_without_splits_to_judge(counterpoint: Command, run: Path) -> None:
    config = load_config(run / "config.yaml", ["data.evaluation=[]"])
    (run / "config.yaml").write_text(dump_config(config))
    ended = counterpoint("evaluate", run)
    assert ended.code == 2
    assert "its config has no data.evaluation, expected splits to judge; add one to the run" in ended.err


def test_a_split_that_stands_alone_keeps_its_name(run: Path) -> None:
    config = load_config(run / "config.yaml", ["data.evaluation.1.split=train"])
    assert evaluation_names(config.data.evaluation) == ("held_out", "train")


def test_the_same_split_twice_is_refused(counterpoint: Command, run: Path, pictures: Path) -> None:
    ended = counterpoint("plan", run / "config.yaml", f"data.evaluation.1.path={pictures}")
    assert ended.code == 2
    assert "data.evaluation: got" in ended.err
    assert "held_out 2 times, expected every set once; keep one of them" in ended.err


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_the_tokenizer_is_opened_once(
    counterpoint: Command, run: Path, held_out: Path, openings: list[Path], command: str
) -> None:
    ended = counterpoint(command, run, *(("--split", f"{held_out}:held_out") if command == "evaluate" else ()))
    assert ended.code == 0, ended.err
    assert len(openings) == 1
