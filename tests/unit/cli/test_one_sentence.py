"""Bad input through the command line: one sentence, exit code 2, no traceback, and no process started."""

import socket
import sys
from pathlib import Path

import pytest

from counterpoint import cli
from counterpoint.config.load import dump_config, load_config

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"
CASES = {
    "unknown_key": (["plan", "modules.vision.layuot.tp=2"], "did you mean layout?"),
    "wrong_type": (["plan", "modules.vision.layout.tp=two"], 'got "two", expected an integer'),
    "outside": (["plan", "modules.vision.layout.ranks=[9]"], "got [9], expected ranks from 0 to 1"),
    "gap": (["plan", "world.size=3"], "ranks 2 of 3 have no module"),
    "overlap": (
        ["plan", "world.size=3", "modules.vision.layout.ranks=[0,1]", "modules.language.layout.ranks=[1,2]"],
        "share ranks [1] but are neither disjoint nor the same",
    ),
    "descending": (["plan", "modules.vision.layout.ranks=[1,0]"], "expected ascending ranks"),
    "heads": (["plan", "modules.language.layout.tp=5"], "a multiple of modules.language.layout.tp, 5"),
    "stages": (["plan", "modules.vision.layout.pp=5"], "5 stages for 4 layers"),
    "later": (["plan", "modules.language.layout.expert.ep=2"], "1 until expert parallelism is supported"),
    "dataset": (["train", "data.train=[{path: nowhere}]"], "counterpoint prepare SOURCE nowhere"),
    "megatron": (["train", "--llm-tp"], "modules.language.layout.tp"),
    "dtype": (["verify", "--dtype", "bfloat16"], "got 'bfloat16', expected one of"),
}


def _leave(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["counterpoint", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    captured = capsys.readouterr()
    assert left.value.code == 2, captured.err
    assert "Traceback" not in captured.err + captured.out
    return captured.err


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (command, *overrides), words = CASES[name]
    assert words in _leave([command, str(TINY), *overrides], monkeypatch, capsys)


def test_a_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = ["train", str(TINY), f"run.dir={tmp_path}", "--port", port]
        assert f"--port: got {port}, which is in use" in _leave(arguments, monkeypatch, capsys)


def test_a_checkpoint_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(dump_config(load_config(TINY)))
    arguments = ["train", str(TINY), f"run.dir={tmp_path}", "modules.language.model.ffn=48"]
    message = _leave(arguments, monkeypatch, capsys)
    assert "modules.language.model.ffn was 24 there, got 48" in message


def test_another_number_of_ranks_was_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "3 ranks were started" in _leave(["train", str(TINY)], monkeypatch, capsys)


def test_evaluating_what_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected a run folder" in _leave(["evaluate", str(tmp_path)], monkeypatch, capsys)
