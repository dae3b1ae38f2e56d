"""Which options of `plan` and `search` are refused together, before anything is written."""

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command


@pytest.mark.parametrize("option", [
    ("--world-size", 2), ("--memory", 80), ("--top", 5), ("--fix", "schedule.*"), ("--schedule", "1f1b"),
    ("--simulations", 3), ("--out", "found.yaml"), ("--json", "found.json"),
])  # fmt: skip
def test_a_comparison_refuses_the_options_of_a_search(
    counterpoint: Command, config: Path, option: tuple[str, object]
) -> None:
    ended = counterpoint("search", "--explain", config, config, *option)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {option[0]}: got it with --explain, which makes no use of it, expected one or")


@pytest.mark.parametrize(("command", "options"), [
    ("search", ("--out", "--json")), ("plan", ("--html", "--json")), ("plan", ("--json", "--trace")),
])  # fmt: skip
def test_a_file_for_two_answers_is_refused(
    counterpoint: Command, config: Path, tmp_path: Path, command: str, options: tuple[str, str]
) -> None:
    one, same = tmp_path / "found", tmp_path / "other" / ".." / "found"
    ended = counterpoint(command, config, options[0], one, options[1], same, "--hardware", "H200")
    assert ended.code == 2
    assert ended.err.startswith(f"error: {options[1]} {same}: got the file of {options[0]} again, expected another one")
    assert not one.exists()


@pytest.mark.parametrize("command", [("search",), ("plan",), ("plan", "--dry-run", "--rank", 0)])
def test_an_answer_does_not_replace_the_config(
    counterpoint: Command, config: Path, command: tuple[object, ...]
) -> None:
    before = config.read_bytes()
    ended = counterpoint(*command, config, "--json", config)
    assert ended.code == 2
    assert f"--json {config}: got the file of CONFIG again" in ended.err
    assert config.read_bytes() == before


@pytest.mark.parametrize("memory", ["inf", "nan", "0"])
def test_memory_is_a_number(counterpoint: Command, config: Path, memory: str) -> None:
    ended = counterpoint("search", config, "--memory", memory)
    assert ended.code == 2
    assert ended.err.startswith(f"error: --memory: got {memory}, expected a number of GiB above 0; correct it")
