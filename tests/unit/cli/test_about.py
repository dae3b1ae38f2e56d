"""What the command line says of itself: help, version, environment, completion, and the reference of keys."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from counterpoint import cli
from tests.unit.cli.conftest import Command

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda names: " ".join(names) or "none")
def test_help_is_short_for_every_command(counterpoint: Command, arguments: list[str]) -> None:
    short, long = (counterpoint(*arguments, option) for option in ("-h", "--help"))
    assert short == long
    assert short.code == 0
    assert short.out.startswith("Usage: ")


def test_the_version_is_that_of_the_package(counterpoint: Command) -> None:
    ended = counterpoint("--version")
    assert (ended.code, ended.out) == (0, f"counterpoint {metadata.version('counterpoint')}\n")


def test_the_environment_has_versions_and_devices_and_no_secrets(
    counterpoint: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret-of-mine")
    ended = counterpoint("env")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in ended.out.splitlines())
    assert facts["counterpoint"] == metadata.version("counterpoint")
    assert facts["torch"] == metadata.version("torch")
    assert facts["python"].endswith(sys.executable)
    assert {"platform", "cpu", "cuda", "gloo", "nccl", "extra demo", "extra gpu"} <= facts.keys()
    assert "secret-of-mine" not in ended.out
    assert str(Path.home()) not in ended.out.replace(sys.executable, "")


def test_the_schema_is_json(counterpoint: Command) -> None:
    schema = json.loads(counterpoint("schema").out)
    assert set(schema["properties"]) >= {"run", "world", "modules", "data", "training"}


def test_a_key_is_explained_without_a_config(counterpoint: Command) -> None:
    ended = counterpoint("explain", "modules.language.model.kv_heads")
    assert ended.code == 0
    assert "Heads of keys and values" in ended.out
    wrong = counterpoint("explain", "modules.language.model.kv_head")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.endswith("did you mean modules.language.model.kv_heads?\n")


COMPLETED = [("pl", 1, {"plan"}), ("explain modules.language.layout.t", 2, {"modules.language.layout.tp"}),
             ("plan config.yaml run.d", 3, {"run.dir", "run.device", "run.deterministic"})]  # fmt: skip


@pytest.mark.parametrize(("words", "number", "expected"), COMPLETED)
def test_a_shell_completes_commands_and_keys(words: str, number: int, expected: set[str]) -> None:
    asked = {
        "_COUNTERPOINT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"counterpoint {words}",
        "COMP_CWORD": str(number),
    }
    code = "import sys; sys.argv = ['counterpoint']; from counterpoint.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert set(ended.stdout.split()) == expected, ended.stderr
