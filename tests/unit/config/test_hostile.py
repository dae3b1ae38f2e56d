"""No text that is handed in as a config ends in a traceback, or takes more time or memory than a config deserves."""

import copy
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.yaml_text import DEEPEST, LONGEST_TEXT, MOST_VALUES
from counterpoint.errors import ConfigError, InputError
from counterpoint.setup.plan import placement_of
from tests.unit.config.mutants import mutants, outcome

IN_SUITE, IN_SWEEP = 60, 3000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 5000 + "]" * 5000, f":1: got more than {DEEPEST} levels within each other, expected valid YAML; "),
        ("{a: " * 5000 + "1" + "}" * 5000, f"more than {DEEPEST} levels within each other"),
        ("x: 1\n? {a: b}\n: 2", ":2: got a list or a section as a key"),
        ("x: 1\n? [1]\n: 2", ":2: got a list or a section as a key"),
        (BOMB, f"more than {MOST_VALUES} values, aliases written out"),
        ("a: &a [*a]", "an alias of what it is in"),
        ("a: 1\na: 2", ":2: got the key a is given twice"),
        ("a: " + "9" * 10_000, "an integer of 10000 digits"),
        ("a: -100000000000000000000", "an integer of 21 digits"),
        ('a: "x\\0y"', "a character that is no text"),
        ('a: "\\ud800"', "a character that is no text"),
        ("a: x\0y", "got a character that is no text, number 0, at 4, expected text; remove it"),
        ("a: !!int x", "the tag tag:yaml.org,2002:int"),
        ("a: !!python/object/apply:os.system [true]", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!timestamp 2001-01-99", "the tag tag:yaml.org,2002:timestamp"),
        ("a: " + "x" * LONGEST_TEXT, f"got more than {LONGEST_TEXT} characters"),
        ("[1, 2]", "expected a mapping of sections"),
        ("", "got null, expected a mapping of sections"),
    ],
    ids=lambda value: value[:12].replace("\0", "NUL"),
)  # fmt: skip
def test_a_text_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    message = str(refused.value)
    assert said in message
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("world.size", 2147483648, "world.size: got 2147483648, expected at most 100000"),
        ("training.steps", 10**30, "expected at most 1e+20"),
        ("training.clip_norm", float("nan"), "training.clip_norm: got NaN, expected a finite number"),
        ("schedule.microbatches", 10**9, "expected at most 10000"),
        ("modules.language.layout.chunks", 10**9, "expected at most 10000"),
        ("modules.vision.model.layers", 10**9, "expected at most 10000"),
        ("modules.language.model.pattern", "*-" * 10**4, "a letter of *, -, M and E for each of 10,000 layers"),
        ("run.dir", "a\0b", "run.dir: got \"a\\u0000b\", expected text without the character NUL"),
        ("run.dir", "a\ud800b", "run.dir: got \"a\\ud800b\", expected a valid string"),
    ],
    ids=lambda value: str(value)[:24].replace("\0", "NUL"),
)  # fmt: skip
def test_a_value_is_refused(emoji: dict[str, Any], path: str, value: object, said: str) -> None:
    data = copy.deepcopy(emoji)
    *sections, key = path.split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    with pytest.raises(ConfigError) as refused:
        load_config(data)
    assert said in str(refused.value)


def test_data_that_hold_themselves_or_are_deep_are_refused(emoji: dict[str, Any]) -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _level in range(5000):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(ConfigError, match=r"data\.train\.0: got .*, expected a section of keys"):
            load_config({**emoji, "data": {**emoji["data"], "train": value}})


def test_many_ranks_are_named_as_ranges(emoji: dict[str, Any]) -> None:
    config = load_config({**emoji, "world": {"size": 100_000}})
    with pytest.raises(InputError) as refused:
        placement_of(config)
    assert "list them under world.idle: [" in str(refused.value)
    assert len(str(refused.value)) < 300


def test_mutants_end_in_typed_errors(tmp_path: Path) -> None:
    found = Counter(outcome(text, tmp_path) for _name, text in mutants(IN_SUITE, seed=1))
    assert found["planned"]
    assert found["ConfigError"]


@pytest.mark.sweep
def test_all_mutants_end_in_typed_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for name, text in mutants(IN_SWEEP, seed=0):
        found[name.split()[-1], outcome(text, tmp_path)] += 1
    ends = ("planned", "ConfigError", "PlacementError", "ProofError")
    changes = {change for change, _end in found}
    with capsys.disabled():
        lines = [f"| {change} | {' | '.join(str(found[change, end]) for end in ends)} |" for change in sorted(changes)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        sys.stdout.write("\n".join(["", f"| change | {' | '.join(ends)} |", *lines, f"peak memory {peak} MiB", ""]))
    assert {end for _change, end in found} <= set(ends)
