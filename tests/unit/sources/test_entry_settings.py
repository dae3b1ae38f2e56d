"""What single sources say for themselves: their length, packing, pictures and number of documents; and whole epochs."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.errors import ConfigError, DataError
from counterpoint.modalities.images.spec import with_most_patches
from counterpoint.setup.data import identity_of, intakes_of, open_corpus
from tests.parity.layouts import TINY

RECIPE: dict[str, Any] = {
    "documents": 30, "text_tokens": {"kind": "uniform", "low": 1, "high": 40},
    "images_per_document": {"kind": "constant", "value": 1}, "image_height": {"kind": "constant", "value": 64},
    "image_width": {"kind": "constant", "value": 64},
}  # fmt: skip


def _config(*entries: dict[str, Any], steps: int = 10, **keys: Any) -> Config:
    data = load_config(TINY).resolved()
    data["data"] |= {"train": [{"synthetic": RECIPE} | entry for entry in entries], "packing": True, **keys}
    data["training"]["steps"] = steps
    return load_config(data)


def _corpus(config: Config) -> Corpus:
    return open_corpus(config, None, 37, extra_depths=0)


def test_settings_of_an_entry_are_its_own() -> None:
    corpus = _corpus(_config({}, {"sequence_tokens": 20}, {"max_patches": 4}, {"packing": False}, {"take": 7}))
    documents = [[source.document(index) for index in range(30)] for source in corpus.sources]
    longest = [max(document.tokens for document in own) for own in documents]
    assert longest[1] <= 20 < longest[0] <= 48
    patches = [{item.rows_in for document in own for item in document.items} for own in documents]
    assert patches == [{16}, {16}, {4}, {16}, {16}]
    packs = [pack for step in range(20) for pack in corpus.packs(step)]
    assert all(len(pack) == 1 or all(document.source != 3 for document in pack) for pack in packs)
    assert any(len(pack) > 1 for pack in packs)
    seen = [{d.index for pack in packs for d in pack if d.source == source} for source in range(5)]
    assert len(seen[4]) == 7 < min(map(len, seen[:4]))
    assert corpus.names == ("synthetic:0", "synthetic:1", "synthetic:2", "synthetic:3", "synthetic:4, 7 taken of")


@pytest.mark.parametrize(
    ("resize", "extent", "rows"),
    [
        ({"kind": "budget", "min_pixels": 64, "max_pixels": 4096}, (64, 64), 4),
        ({"kind": "naflex", "max_patches": 64}, (64, 64), 4),
    ],
)
def test_pictures_of_an_entry_are_limited_in_the_size_rule_of_its_module(
    resize: dict[str, Any], extent: tuple[int, int], rows: int
) -> None:
    data = load_config(TINY).resolved()
    data["modules"]["vision"]["model"]["image"] = {"resize": resize}
    intakes = intakes_of(load_config(data))
    assert with_most_patches(intakes["vision"], rows).place(extent).rows_in <= rows
    assert intakes["vision"].place(extent).rows_in > rows


def test_an_evaluation_set_reads_what_is_taken_of_it() -> None:
    config = _config({}, evaluation=[{"synthetic": RECIPE, "take": 5, "packing": False, "sequence_tokens": 30}])
    (split,) = _corpus(config).evaluation
    packs = [pack for batch in split.batches() for pack in batch]
    assert [[document.index for document in pack] for pack in packs] == [[0], [1], [2], [3], [4]]
    assert max(document.tokens for pack in packs for document in pack) <= 30


@pytest.mark.parametrize("where", ["train", "evaluation"])
def test_more_documents_than_there_are_cannot_be_taken(where: str) -> None:
    with pytest.raises(DataError, match=r"take: got 31 documents of .*, expected at most the 30 that it has"):
        _corpus(
            _config({"take": 31}) if where == "train" else _config({}, evaluation=[{"synthetic": RECIPE, "take": 31}])
        )


def test_whole_epochs_take_the_steps_that_they_need() -> None:
    entries: list[dict[str, Any]] = [{}, {"take": 11}, {"max_patches": 4}]
    with pytest.raises(DataError, match=r"training\.steps: got 10, expected 27, which 3 epochs of 71 documents take"):
        _corpus(_config(*entries, epochs=3))
    corpus = _corpus(_config(*entries, steps=27, epochs=3, window_steps=4))
    drawn = [(d.source, d.index) for step in range(27) for pack in corpus.packs(step) for d in pack]
    assert len(drawn) == 3 * 71 == 3 * len(set(drawn))


@pytest.mark.parametrize(
    ("entry", "keys", "message"),
    [
        ({"sequence_tokens": 49}, {}, r"sequence_tokens: got 49, expected at most data\.sequence_tokens, 48"),
        ({"packing": False}, {"packing": False}, r"packing: got false, expected true, because data\.packing is false"),
        ({"weight": 2.0}, {"epochs": 2}, r"weight: got 2, expected 1, because in whole epochs"),
        ({"take": 0}, {}, r"take: got 0, expected at least 1"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(entry: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.train\.0\.{message}"):
        _config(entry, **keys)


def test_defaults_leave_the_identity_of_a_run_as_it_was() -> None:
    plain = identity_of(_config({})).fingerprint
    new = {"take", "sequence_tokens", "packing", "max_patches", "window_steps", "epochs"}
    assert {key.rpartition(".")[2] for key in plain if key.startswith("data.train.")} & new == set()
    assert {"data.window_steps", "data.epochs"} & plain.keys() == set()
    given = _config({"take": 3, "max_patches": 4}, window_steps=2, epochs=1)
    assert identity_of(given).fingerprint == plain | {
        "data.train.0.take": 3, "data.train.0.max_patches": 4, "data.window_steps": 2, "data.epochs": 1,
    }  # fmt: skip
