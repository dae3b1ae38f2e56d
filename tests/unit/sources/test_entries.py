"""Entries of the config's data: which source each is of, and what it says of itself."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.config.data import evaluation_names
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from counterpoint.kinds.modality import Modality
from counterpoint.modalities import MODALITIES
from counterpoint.section.problem import Problem
from counterpoint.section.section import Section
from counterpoint.setup.data import identity_of, open_corpus
from counterpoint.sources import SOURCES
from counterpoint.sources.census import Census
from counterpoint.sources.entry import EntrySection, Opening
from counterpoint.sources.source import Source
from counterpoint.sources.synthetic.source import SyntheticSource
from counterpoint.sources.synthetic.spec import recipe_section
from tests.recipes import constant, recipe_of, uniform

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"


class Letters(Section):
    """How many documents of one letter each."""

    count: int


class LettersEntry(EntrySection):
    """A source that a test brings."""

    letters: Letters
    weight: float = 2.0

    @property
    def split(self) -> str:
        return "letters"

    @property
    def folder(self) -> None:
        return None

    def called(self, number: int) -> str:
        return f"letters:{number}"

    def problems(self, path: str, _taken: Mapping[str, Modality]) -> Iterator[Problem]:
        if self.letters.count > 26:
            yield Problem(f"{path}.letters.count", f"{self.letters.count}", "at most 26", "lower it")

    def missing(self, _path: str) -> Iterator[Problem]:
        yield from ()

    def content(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def open(self, number: int, opening: Opening) -> Source:
        recipe = recipe_of(self.letters.count, 0, constant(1))
        return SyntheticSource(recipe, number, opening.intakes, opening.sequence_tokens, opening.vocabulary)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers a source for one test."""
    monkeypatch.setattr(SOURCES, "_kinds", {**dict(SOURCES.items()), "letters": LettersEntry})


def _config(*entries: dict[str, Any]) -> Config:
    data = load_config(TINY).resolved()
    data["data"]["train"] = list(entries)
    return load_config(data)


def test_an_entry_is_of_the_source_whose_key_it_has() -> None:
    config = _config({"path": "x"}, {"synthetic": {"documents": 1, "text_tokens": {"kind": "constant", "value": 3}}})
    prepared, drawn = config.data.train
    assert isinstance(prepared, SOURCES["prepared"])
    assert isinstance(drawn, SOURCES["synthetic"])
    assert [entry.called(number) for number, entry in enumerate(config.data.train)] == ["x:train", "synthetic:1"]
    assert evaluation_names(config.data.train) == ("train", "synthetic")
    assert [entry.folder for entry in config.data.train] == [Path("x"), None]
    assert [len(list(entry.missing("here"))) for entry in config.data.train] == [1, 0]
    assert load_config(config.resolved()) == config


@pytest.mark.usefixtures("letters")
def test_a_registered_source_is_read_checked_opened_and_remembered() -> None:
    config = _config({"letters": {"count": 5}})
    corpus = open_corpus(config, None, 50, extra_depths=0)
    assert ([len(source) for source in corpus.sources], corpus.names) == ([5], ("letters:0",))
    assert isinstance(corpus.sources[0].census, Census)
    assert identity_of(config).fingerprint["data.train.0.letters.count"] == 5
    assert load_config(config.resolved()) == config
    with pytest.raises(ConfigError, match=r"data\.train\.0\.letters\.count: got 30, expected at most 26; lower it"):
        _config({"letters": {"count": 30}})
    with pytest.raises(ConfigError, match=r"data\.train\.0\.letters\.many: got an unknown key, expected one of count"):
        _config({"letters": {"count": 3, "many": 1}})


@pytest.mark.parametrize(
    ("entry", "key", "known"),
    [
        ({"path": "x", "weigth": 2}, "weigth",
         "max_patches, packing, path, sequence_tokens, shuffle_mib, split, take, weight;"),
        ({"synthetic": {"documents": 1, "text_tokens": {"kind": "constant", "value": 3}}, "path": "x"}, "path",
         "max_patches, packing, sequence_tokens, synthetic, take, weight;"),
    ],
)  # fmt: skip
def test_an_unknown_key_of_an_entry_is_told_the_keys_of_its_source(entry: dict[str, Any], key: str, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.train\.0\.{key}: got an unknown key, expected one of {known}"):
        _config(entry)


def test_without_it_the_key_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"data\.train\.0\.letters: got an unknown key"):
        _config({"letters": {"count": 5}})


def test_a_recipe_has_the_keys_of_all_modalities() -> None:
    keys = list(recipe_section().model_fields)
    own = [key for one in MODALITIES.values() for key in (one.drawing.number, one.drawing.without, *one.drawing.sizes)]
    assert keys == ["documents", "seed", "text_tokens", "without_loss", "modules", "without", *own]
    drawn = recipe_of(1, 0, constant(3), images_per_document=uniform(1, 2), image_width=constant(7)).items(
        MODALITIES["image"]
    )
    assert (drawn.number, drawn.without) == (uniform(1, 2), 0.0)
    assert [size.sample(np.random.default_rng(0)) for size in drawn.sizes] == [224, 7]
