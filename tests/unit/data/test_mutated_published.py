"""Damaged datasets as published end in one typed sentence or are read; five thousand are tried with `-m more`."""

from collections import Counter
from pathlib import Path

import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index
from tests.unit.data.published_mutations import BASES, mutate, write_bases

REFUSED, TAKEN = "refused", "taken"
IN_SUITE, MORE = 200, 5000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datasets before they are damaged, and a tokenizer."""
    pytest.importorskip("datasets")
    pytest.importorskip("webdataset")
    place = tmp_path_factory.mktemp("published")
    write_bases(place)
    train_tokenizer(["A red square."], 270, place / "tokenizer.json")
    return place


def outcome(seed: int, place: Path, folder: Path) -> tuple[str, str]:
    """The kind of dataset and what became of it; whatever else is raised fails the test."""
    kind = mutate(seed, place, folder / "raw")
    options = PrepareOptions(
        tokenizer=place / "tokenizer.json", images=(place / "parquet of pages" / "fetched",), addresses="name"
    )
    try:
        summary = prepare(str(folder / "raw"), folder / "out", options)
    except DataError as error:
        message = str(error)
        message.encode()
        assert "\n" not in message, message
        assert len(message) < 1500, message
        assert str(folder) in message, message
        assert not (folder / "out").exists()
        return kind, REFUSED
    index = Index(summary.out)
    for row in range(summary.manifest.documents):
        index.tokens(row)
        for item in index.items(row):
            index.item_files(item, slice(None))
    return kind, TAKEN


def _all(seeds: range, place: Path, tmp_path: Path) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for seed in seeds:
        try:
            counts[outcome(seed, place, tmp_path / str(seed))] += 1
        except Exception as error:
            wrong.append((seed, repr(error)[:300]))
    assert wrong == []
    return counts


def test_damaged_datasets_are_refused_in_a_sentence_or_read(place: Path, tmp_path: Path) -> None:
    counts = _all(range(IN_SUITE), place, tmp_path)
    assert {kind for kind, _end in counts} == set(BASES)
    assert {end for _kind, end in counts} == {REFUSED, TAKEN}


@pytest.mark.more
def test_more_damaged_datasets_are_refused_in_a_sentence_or_read(place: Path, tmp_path: Path) -> None:
    counts = _all(range(IN_SUITE, IN_SUITE + MORE), place, tmp_path)
    for kind in BASES:
        print(f"{kind}: {counts[kind, REFUSED]} refused, {counts[kind, TAKEN]} taken")  # noqa: T201


def test_nothing_is_wrong_with_what_is_not_damaged(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in ("_bytes", "_column", "_file"):
        monkeypatch.setattr(f"tests.unit.data.published_mutations.{change}", lambda _draw, _path: None)
    assert {end for _kind, end in _all(range(30), place, tmp_path)} == {TAKEN}
