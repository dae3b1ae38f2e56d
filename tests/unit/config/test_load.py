"""Files, overrides and the way back to YAML."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from counterpoint.config import Config, dump_config, load_config
from counterpoint.config.yaml_text import parse_yaml, to_yaml
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.sources.synthetic.spec import SyntheticEntry

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))

# Characters that no terminal shows are refused, also where escapes write them, and integers of more than 20 digits.
_TEXT = st.text().filter(lambda text: not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text))
_NUMBER = st.integers(1 - 10**20, 10**20 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_PLAIN = st.none() | st.booleans() | _NUMBER | _TEXT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_and_round_trip(path: Path) -> None:
    config = load_config(path)
    assert load_config(parse_yaml(dump_config(config))) == config


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_say_what_they_are_for(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    assert all(any(line.startswith(f"# {word}:") for line in header) for word in ("Ranks", "Time", "Expect"))


@settings(deadline=None)
@given(st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=8))
def test_plain_data_survives_yaml(data: Any) -> None:
    assert parse_yaml(to_yaml(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.0e-3", 0.001), ("1E5", 1e5), (".5", 0.5), ("-3", -3), ("0", 0),
        ("010", "010"), ("1:30", "1:30"), ("yes", "yes"), ("off", "off"), ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"), ("0x10", "0x10"), ("~", None), ("", None), ("true", True), ("1f1b", "1f1b"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_written(text: str, value: object) -> None:
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_later_overrides_win_and_the_input_stays(emoji: dict[str, Any]) -> None:
    before = copy.deepcopy(emoji)
    overrides = [
        "training.steps=5",
        "training.steps=7",
        "modules.vision.optimizer.lr=1e-4",
        "data.train.0.weight=2",
        "evaluation={every_steps: null}",
        "watchdog.startup_seconds=9",
        "modules.language.model.pattern=*-*-",
    ]
    config = load_config(emoji, overrides)
    assert emoji == before
    assert config.training.steps == 7
    assert config.modules["vision"].optimizer.lr == 1e-4
    assert config.data.train[0].weight == 2.0
    assert config.evaluation.every_steps is None
    assert (config.watchdog.timeout_seconds, config.watchdog.startup_seconds) == (300.0, 9.0)
    assert config.modules["language"].model.num_layers == 4


def test_defaults(emoji: dict[str, Any]) -> None:
    language = load_config(emoji, ["modules.language.model.kv_heads=null"]).modules["language"]
    assert isinstance(language.model, DecoderConfig)
    assert (language.model.num_kv_heads, language.model.head_size) == (4, 32)
    layout = language.layout
    assert (layout.pp, layout.dp_replicate, layout.dp_shard, layout.cp, layout.split) == (
        1,
        1,
        None,
        1,
        "even",
    )
    assert layout.sequence_parallel
    assert not layout.reshard


def test_an_entry_with_synthetic_is_synthetic(emoji: dict[str, Any]) -> None:
    text = "{kind: lognormal, median: 9, sigma: 1, low: 1, high: 20}"
    config = load_config(emoji, [f"data.train=[{{synthetic: {{documents: 3, text_tokens: {text}}}, weight: 3}}]"])
    entry = config.data.train[0]
    assert isinstance(entry, SyntheticEntry)
    assert entry.synthetic.seed == 0
    assert load_config(config.resolved()) == config


def test_a_config_is_frozen(emoji: dict[str, Any]) -> None:
    config = load_config(emoji)
    with pytest.raises(ValidationError):
        config.run.seed = 1
    assert isinstance(config, Config)
