"""What `calibrate` refuses before it measures anything, and what is left when it ends early."""

from pathlib import Path

import pytest

from counterpoint import costs
from counterpoint.calibrate import command
from counterpoint.costs.file import write_hardware
from counterpoint.errors import HangError
from tests.unit.cli.conftest import Command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--device", "tpu"), "--device: got 'tpu', expected cuda or cpu; choose one, or leave it out"),
        (("--device", "cpu", "--fill-from", "H200"), "--fill-from: got H200, whose device is cuda, for a measurement"),
        (("--fill-from", "H300"), "hardware: got 'H300', expected one of a100, b200, h100, h200 or a file"),
        (("--ranks", "0"), "Invalid value for '--ranks'"),
    ],
)  # fmt: skip
def test_bad_input_is_told(counterpoint: Command, tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    ended = counterpoint("calibrate", "--out", tmp_path / "mine.json", *arguments)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {sentence}")
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_told(
    counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = counterpoint("calibrate", "--out", tmp_path / "mine.json", "--device", "cuda")
    assert ended.code == 2
    assert "got cuda on a machine without a usable GPU" in ended.err


def test_more_ranks_than_gpus_are_told(counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    ended = counterpoint("calibrate", "--out", tmp_path / "mine.json", "--ranks", 4)
    assert ended.code == 2
    assert "--ranks: got 4 with 2 GPUs here, expected one GPU a rank" in ended.err


def test_a_file_that_exists_and_a_folder_that_does_not_are_told(counterpoint: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    write_hardware(file, costs.load("H200"))
    assert f"{file}: already exists, expected a new file; choose another, or add --force" in (
        counterpoint("calibrate", "--out", file).err
    )
    assert costs.load(file) == costs.load("H200")
    assert (
        "expected a file in a folder that exists" in counterpoint("calibrate", "--out", tmp_path / "a" / "b.json").err
    )


@pytest.mark.parametrize("written", [False, True])
def test_what_ends_it_early_names_the_file_that_is_left(
    counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    file = tmp_path / "mine.json"
    # What is replaced is not taken for what was measured.
    write_hardware(file, costs.load("A100"))

    def launch(_ranks: int, _entry: object, _arguments: object, error_file: Path) -> None:
        assert not error_file.exists()
        assert not file.exists()
        if written:
            write_hardware(file, costs.load("H200"))
        raise HangError("rank 1 hangs")

    monkeypatch.setattr(command, "launch_local", launch)
    ended = counterpoint("calibrate", "--out", file, "--device", "cpu", "--force")
    assert ended.code == HangError.exit_code
    left = f"; {file} has what was measured until then, and names the rest" if written else ""
    assert ended.err == f"error: rank 1 hangs{left}\n"


def test_a_world_of_another_size_is_told(
    counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    ended = counterpoint("calibrate", "--out", tmp_path / "mine.json", "--device", "cpu", "--ranks", 4)
    assert ended.code == 2
    assert "--ranks: got 4 in a world of 2 processes, expected no number; leave it out" in ended.err
