"""What `verify` says of a difference: the first that is wrong, whole names, and the command that repeats the case."""

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint.config.load import load_config
from counterpoint.verify import command
from counterpoint.verify.case import CaseResult
from counterpoint.verify.compare import Difference
from counterpoint.verify.known import Known, Seen
from counterpoint.verify.pool import Pool
from tests.parity.layouts import TINY, named_config, override

NAME = "step 1: language.layers.1.attention.a_name_that_is_longer_than_the_terminal.is_wide.weight"
RESULT = CaseResult(
    (Difference("loss", "step 0", 0.0), Difference("gradient", NAME, 0.5), Difference("update", NAME, 0.9)),
    1e-9,
    1.0,
    first=Difference("gradient", NAME, 0.5),
)


def test_a_config_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "verify", lambda _config, _dtype: RESULT)
    console = Console(file=io.StringIO(), width=60)
    assert not command.verify_config(TINY, ["data.sequence_tokens=40"], "float64", None, console)
    *_table, first, again = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == f"different, and first: gradient differs by 5.0e-01 at {NAME}"
    assert again == f"again: counterpoint verify {TINY} data.sequence_tokens=40 --dtype float64"


def test_a_drawn_case_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "run", lambda *_arguments: RESULT)
    console = Console(file=io.StringIO(), width=60)
    key = "modules.language.model.pattern=*-*-"
    assert not command.verify_random(TINY, [key], 5, 9, 4, "float64", 3, None, console)
    first, again, *_table = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == f"case 3 failed: first, gradient differs by 5.0e-01 at {NAME}"
    expected = ["verify", str(TINY), key, "--random", "1", "--case", "3", "--seed", "9", "--world-size", "4"]
    assert shlex.split(again) == ["again:", "counterpoint", *expected, "--dtype", "float64"]


def test_layouts_of_the_same_models_and_data_have_one_reference(tmp_path: Path) -> None:
    runs: list[str] = []

    def of(name: str, **keys: object) -> None:
        def run() -> Seen:
            runs.append(name)
            return Seen((), 1.0)

        known.of(override(named_config("dp2_to_tp2"), {key.replace("__", "."): v for key, v in keys.items()}), [], run)

    known = Known()
    of("first")
    of("the same")
    of("another layout", modules__vision__layout={"ranks": [0, 1], "tp": 2}, schedule__microbatches=4)
    of("recomputed", modules__vision__recompute="full", data__balance="sample")
    assert runs == ["first"]
    others = {
        "modules__vision__train": "none", "run__seed": 2, "modules__language__optimizer__lr": 0.5,
        "training__clip_norm": None, "training__steps": 3, "modules__vision__model__merge": 1,
    }  # fmt: skip
    for key, value in others.items():
        of(key, **{key: value})
    assert runs == ["first", *others]
    of("first")
    assert runs == ["first", *others]


def test_what_a_config_does_not_say_is_computed_again() -> None:
    runs: list[int] = []

    def run() -> Seen:
        runs.append(1)
        return Seen((), 1.0)

    known, data = Known(), load_config(TINY).resolved()
    data["data"]["train"] = [{"path": "somewhere", "split": "train"}]
    for _ in range(2):
        known.of(load_config(data), [], run)
    assert len(runs) == 2
