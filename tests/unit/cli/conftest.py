"""The command line in this process: what it prints and its exit code; nothing may start a rank."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from counterpoint import cli
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import Tokenizer

COLOURS = ("red", "green", "blue", "black")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def counterpoint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `counterpoint ARGUMENTS...`; a command that gets as far as starting or joining ranks fails the test."""

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("bad input got as far as starting ranks")

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", refuse)
    monkeypatch.setattr("counterpoint.run.run_rank", refuse)
    monkeypatch.setattr("counterpoint.verify.pool.Pool.__enter__", refuse)
    monkeypatch.setattr("counterpoint.verify.pool.Pool.__init__", refuse)
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["counterpoint", *map(str, arguments)])
        monkeypatch.setattr(cli._output, "file", out := io.StringIO())
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        captured = capsys.readouterr()
        return Ended(code, out.getvalue() + captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of four pictures and their colours, splits `train` and `held_out`."""
    folder = tmp_path_factory.mktemp("pictures")
    for colour in COLOURS:
        Image.new("RGB", (8, 8), colour).save(folder / f"{colour}.png")
        turns = [{"from": "human", "value": "<image>Colour?"}, {"from": "gpt", "value": colour}]
        for split in ("train", "held_out"):
            with (folder / f"{split}.jsonl").open("a") as lines:
                lines.write(json.dumps({"image": f"{colour}.png", "conversations": turns}) + "\n")
    prepare(str(folder), folder / "index", PrepareOptions(vocabulary=300))
    return folder / "index"


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """A config as plain data, free to change: vision dp2 on ranks 0-1, language tp2 on ranks 2-3."""
    optimizer = {"lr": 1e-3}
    projector = {"kind": "linear"}
    return {
        "run": {"dir": str(tmp_path / "run"), "device": "cpu"},
        "world": {"size": 4},
        "modules": {
            "vision": {
                "model": {"kind": "vit", "layers": 3, "hidden": 8, "heads": 2, "ffn": 8, "patch": 4,
                          "image": {"size": 8, "max_patches": 4}, "projector": projector},
                "layout": {"ranks": [0, 1]},
                "optimizer": optimizer,
            },
            "language": {
                "model": {"kind": "decoder", "pattern": "*-", "hidden": 8, "heads": 4, "ffn": 8, "vocab": "tokenizer"},
                "layout": {"ranks": [2, 3], "tp": 2},
                "optimizer": optimizer,
            },
        },
        "edges": [{"source": "vision", "target": "language"}],
        "data": {
            "train": [{"path": str(pictures)}],
            "evaluation": [{"path": str(pictures), "split": "held_out"}],
            "tokenizer": str(pictures / "tokenizer.json"),
            "sequence_tokens": 32,
        },
        "training": {"steps": 2, "global_batch_samples": 4},
    }  # fmt: skip


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """The config as a file."""
    return write(settings, tmp_path / "config.yaml")


def write(settings: dict[str, Any], path: Path) -> Path:
    """Write plain data as a config file."""
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of tokenizers that were opened since, each as often as it was."""
    found: list[Path] = []
    load = Tokenizer.load

    def noted(path: Path) -> Tokenizer:
        found.append(path)
        return load(path)

    monkeypatch.setattr(Tokenizer, "load", noted)
    return found
