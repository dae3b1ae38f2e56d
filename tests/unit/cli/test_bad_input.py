"""Bad input ends a command with one sentence and exit code 2, without a traceback and before any rank starts."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from counterpoint.inference import evaluate
from counterpoint.inference.plain import PlainModel
from tests.unit.cli.conftest import Command, Ended, write

# overrides, what the sentence says
CONFIGS = [
    ("modules.vision.layot.tp=2", "modules.vision.layot: got an unknown key", "did you mean layout?"),
    ("training.steps=many", 'training.steps: got "many", expected an integer', "correct the value"),
    ("frobnicate=1", "frobnicate: got an unknown key", "remove it"),
    ("schedule.kind=1F1B", 'schedule.kind: got "1F1B", expected "gpipe", "1f1b"', "did you mean 1f1b?"),
    ("schedule.kind=interleaved", 'schedule.kind: got "interleaved"', "expected a module with chunks"),
    ("modules.language.layout.ranks=[2,4]", "modules.language.layout.ranks: got [4]", "raise world.size"),
    ("world.size=5", "world.size: ranks 4 of 5 have no module", "list them under world.idle: [4]"),
    ("modules.language.layout.ranks=[1,2,3,0]", "got [1, 2, 3, 0] with 0 listed after 3", "list them as [0, 1, 2, 3]"),
    ("modules.vision.layout.ranks=[1,0]", "got [1, 0] with 0 listed after 1", "list them as [0, 1]"),
    ("modules.vision.layout.ranks=[0,1,2]", "share ranks [2]", "set world.partial_overlap: true if it is meant"),
    ("modules.vision.layout.dp_shard=3", "modules.vision.layout: pp 1 x dp 3", "change a degree or the rank list"),
    ("modules.language.layout.tp=3", "modules.language.model.heads: got 4", "choose a tp that divides it"),
    ("modules.vision.layout.pp=4", "modules.vision.layout.pp: got 4 stages for 3 layers", "lower pp to at most 3"),
    ("edges.0.source=visoin", 'edges.0.source: got "visoin"', "did you mean vision?"),
    ("edges.0.mark=<picture>", "images stand at the mark '<image>'", "set the mark of an edge to '<image>'"),
    ("data.train.0.path=nowhere", 'data.train.0.path: got "nowhere"', "counterpoint prepare SOURCE nowhere"),
    ("data.train.0.split=tests", "no split 'tests'", "expected one of: held_out, train"),
    ("data.tokenizer=nowhere.json", 'data.tokenizer: got "nowhere.json"', "correct the path"),
    ("data.sequence_tokens=2", "none of its 4 samples fits into 2 rows", "raise data.sequence_tokens"),
    ("--encoder-tp=2", "--encoder-tp is a Megatron name", "modules.vision.layout.tp=2"),
    ("--micro-batch-size", "--micro-batch-size is a Megatron name", "schedule.microbatches"),
    ("--frobnicate", "No such option: --frobnicate", "COMMAND --help its arguments"),
]


def _says(ended: Ended, *words: str) -> None:
    """The command ended with code 2, one line and these words in it."""
    assert ended.code == 2, ended.err
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert [word for word in words if word not in ended.err] == [], ended.err


@pytest.mark.parametrize("command", ["plan", "train", "verify"])
@pytest.mark.parametrize(("override", "what", "remedy"), CONFIGS)
def test_a_bad_config(counterpoint: Command, config: Path, command: str, override: str, what: str, remedy: str) -> None:
    ended = counterpoint(command, config, override)
    _says(ended, what, remedy)
    assert not (config.parent / "run").exists()
    if command == "plan":
        assert ended.out == ""


def test_the_config_itself_is_good(counterpoint: Command, config: Path) -> None:
    assert counterpoint("plan", config).code == 0


@pytest.mark.parametrize("command", ["plan", "train", "verify"])
def test_no_config(counterpoint: Command, tmp_path: Path, command: str) -> None:
    _says(counterpoint(command, tmp_path / "nowhere.yaml"), "got no readable file", "correct the path")
    _says(counterpoint(command, tmp_path), "got a directory")
    _says(counterpoint(command), "Missing argument 'CONFIG'", "--help")


def test_no_such_command(counterpoint: Command) -> None:
    _says(counterpoint("trian"), "No such command 'trian'", "counterpoint --help lists the commands")


def test_who_is_where_comes_before_missing_files(counterpoint: Command, config: Path) -> None:
    _says(counterpoint("plan", config, "world.size=5", "data.train.0.path=nowhere"), "ranks 4 of 5 have no module")


def test_a_modality_without_a_module(counterpoint: Command, settings: dict[str, Any], tmp_path: Path) -> None:
    del settings["modules"]["vision"], settings["edges"]
    settings["world"]["size"] = 2
    settings["modules"]["language"]["layout"]["ranks"] = [0, 1]
    ended = counterpoint("train", write(settings, tmp_path / "language.yaml"))
    _says(ended, "4 samples hold images, a modality without a module", "add a vision module and its edge")


def test_an_index_that_was_cut_short(
    counterpoint: Command, config: Path, pictures: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    copy = tmp_path / "index"
    copy.mkdir()
    for file in pictures.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "index.arrow").write_bytes(b"")
    _says(counterpoint("train", config, f"data.train.0.path={copy}"), "index.arrow has 0 bytes", "prepare it again")


def test_a_port_in_use(counterpoint: Command, config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _says(counterpoint("train", config, "--port", port), f"--port: got {port}, which is in use", "choose another")


@pytest.mark.parametrize("port", ["-1", "65536", "any"])
def test_no_port(counterpoint: Command, config: Path, port: str) -> None:
    _says(counterpoint("train", config, "--port", port), "Invalid value for '--port'")


@pytest.mark.parametrize("joined", [False, True])
def test_a_checkpoint_of_another_model(
    counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    run = config.parent / "run"
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    (run / "config.yaml").write_text(config.read_text())
    if joined:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "4")
    ended = counterpoint("train", config, "modules.vision.model.hidden=16")
    _says(ended, "modules.vision.model.hidden was 8 there, got 16", "choose another run.dir")


def test_another_world_than_torchrun_started(
    counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    _says(counterpoint("train", config), "world.size: got 4 in the config but 3 ranks were started", "set world.size=3")


def test_a_run_folder_that_cannot_be(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _says(counterpoint("train", config, f"run.dir={tmp_path}/file/run"), "cannot be written", "choose another folder")


def test_a_device_that_is_not_there(counterpoint: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _says(counterpoint("train", config, "run.device=cuda"), "run.device: got 'cuda'", "set run.device=cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dtype", "bfloat16"], "--dtype: got 'bfloat16'"),
        (["--random", "0"], "Invalid value for '--random'"),
        (["--random", "2", "--world-size", "0"], "Invalid value for '--world-size'"),
        (["--case", "3"], "--case: got no --random"),
        (["--seed", "3", "--world-size", "4"], "--seed and --world-size: got no --random"),
    ],
)
def test_bad_options_of_verify(counterpoint: Command, config: Path, options: list[str], words: str) -> None:
    _says(counterpoint("verify", config, *options), words)


def test_a_rank_that_is_not_there(counterpoint: Command, config: Path) -> None:
    _says(counterpoint("plan", config, "--rank", 4), "--rank: got 4, expected a rank from 0 to 3")


@pytest.mark.parametrize("arguments", [["evaluate"], ["report"], ["generate", "--image", "x.png"]])
def test_a_folder_without_a_run(counterpoint: Command, tmp_path: Path, arguments: list[str]) -> None:
    command, *options = arguments
    _says(counterpoint(command, tmp_path, *options), "no config.yaml, expected a run folder", "give the run.dir")


def test_a_run_without_checkpoints(counterpoint: Command, config: Path, tmp_path: Path) -> None:
    assert config == tmp_path / "config.yaml"
    _says(counterpoint("evaluate", tmp_path), "found steps []", "train first")


PICTURES = {
    "folder": (lambda file: file.mkdir(), "cannot be read (it is a folder), expected a PNG or JPEG file; name one"),
    "missing": (lambda _file: None, "cannot be read (there is no such file), expected a PNG or JPEG file; name one"),
    "pipe": (os.mkfifo, "cannot be read (it is no file of bytes), expected a PNG or JPEG file; name one"),
    "empty": (
        lambda file: file.write_bytes(b""),
        "the image bytes cannot be read (of no format that is known), expected",
    ),
    "text": (
        lambda file: file.write_text("red"),
        "the image bytes cannot be read (of no format that is known), expected",
    ),
    "cut off": (
        lambda file: file.write_bytes((file.parent / "whole.png").read_bytes()[:60]),
        "the image bytes cannot be decoded (",
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_is_none(
    counterpoint: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make, words = PICTURES[kind]
    Image.effect_noise((8, 8), 50).save(tmp_path / "whole.png")
    make(tmp_path / "picture.png")
    (tmp_path / "checkpoints" / "step-00000002").mkdir(parents=True)
    monkeypatch.setattr(PlainModel, "load", lambda *_arguments: None)
    ended = counterpoint("generate", tmp_path, "--image", tmp_path / "picture.png")
    _says(ended, f"--image {tmp_path / 'picture.png'}: {words}", "PNG or JPEG")
    assert ended.err.count("\n") == 1


def test_a_picture_with_a_name_that_no_file_can_have(
    counterpoint: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints" / "step-00000002").mkdir(parents=True)
    _says(counterpoint("generate", tmp_path, "--image", config), "step-00000002", "another step")
    monkeypatch.setattr(PlainModel, "load", lambda *_arguments: None)
    ended = counterpoint("generate", tmp_path, "--image", tmp_path / ("a" * 300))
    _says(ended, "cannot be read (File name too long), expected a PNG or JPEG file; name one")


def test_how_turns_are_laid_out_without_the_data_that_says_it(
    counterpoint: Command, settings: dict[str, Any], tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder is gone, as where a run was copied to another machine."""
    gone = tmp_path / "gone"
    settings["data"]["train"][0]["path"] = str(gone)
    settings["data"]["tokenizer"] = str(pictures / "tokenizer.json")
    write(settings, tmp_path / "config.yaml")
    (tmp_path / "checkpoints" / "step-00000002").mkdir(parents=True)
    monkeypatch.setattr(PlainModel, "load", lambda *_arguments: None)
    _says(
        counterpoint("generate", tmp_path, "--prompt", "Colour?"),
        f"dataset {gone}: index.json is missing",
        "or say with --format how turns are laid out, plain or captions",
    )
    monkeypatch.setattr(evaluate, "write", lambda *_arguments: [[]])
    ended = counterpoint("generate", tmp_path, "--prompt", "Colour?", "--format", "plain")
    assert (ended.code, ended.out) == (0, "\n"), ended.err


def test_bad_sources(counterpoint: Command, tmp_path: Path) -> None:
    _says(counterpoint("prepare", tmp_path / "nowhere", tmp_path / "out"), "is no folder", "'emoji', a folder with")
    _says(counterpoint("prepare", tmp_path, tmp_path / "out"), "no *.jsonl file in it")
    (tmp_path / "train.jsonl").write_text("{not json}\n")
    _says(counterpoint("prepare", tmp_path, tmp_path / "out"), "train.jsonl:1: not a JSON object")
    assert not (tmp_path / "out").exists()
