"""README's commands with keys load and their plans are proved; the programs that it shows are those of today."""

import re
import shlex
from pathlib import Path

import pytest

from counterpoint.check.proof import check_plan
from counterpoint.config import load_config
from tests.unit.planned import planned

WORDS = 1024
REPOSITORY = Path(__file__).parents[3]
COMMAND = re.compile(r"`counterpoint (?:plan|train|verify) (examples/\S+\.yaml)((?:\s+[\w.]+=\S+)*)`")
README = (REPOSITORY / "README.md").read_text()
COMMANDS = COMMAND.findall(README)


def test_there_are_some() -> None:
    assert any(overrides for _config, overrides in COMMANDS)


@pytest.mark.parametrize(("config", "overrides"), COMMANDS)
def test_a_command_of_the_readme_is_proved(config: str, overrides: str) -> None:
    loaded = load_config(REPOSITORY / config, shlex.split(overrides))
    check_plan(planned(loaded, WORDS))


def test_the_programs_of_the_readme_are_those_of_the_demo() -> None:
    programs = planned(load_config(REPOSITORY / "examples" / "emoji.yaml"), WORDS).schedule.programs
    (shown,) = re.findall(r"^Programs .*?─\n(.*?)\n\n", README, flags=re.DOTALL | re.MULTILINE)
    rows = re.split(r"^(\d)-\d", shown, flags=re.MULTILINE)[1:]
    for rank, actions in zip(rows[::2], rows[1::2], strict=True):
        assert actions.split() == [str(action) for action in programs[int(rank)]]
