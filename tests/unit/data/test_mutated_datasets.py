"""Damaged datasets end in one typed sentence or are read: `prepare`, opening, and reading every document.

The sweep of 500 prints its table, which docs/sweeps.md holds: `pytest -m sweep -s tests/unit/data`.
"""

from collections import Counter
from pathlib import Path

import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index, file_digest
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.data.mutations import MUTATIONS, SECRET, mutate, write_base
from tests.unit.items import MakeClip, MakePicture

TAKERS: Intakes = {
    "vision": ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4),
    "audio": ClipIntake("audio", mels=8, window=4, stride=2, stack=1, positions=50),
    "given": FeatureIntake("given", 6),
}
REFUSED, TAKEN, STOOD_IN = "refused", "taken", "taken, neutral content stands in"
SAMPLE, SWEEP = 25, 500


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(["A square."], 270, path)
    return path


def outcome(seed: int, place: Path, tokenizer: Path, picture: bytes, clip: bytes) -> tuple[str, str]:
    """The kind of damage and what became of it; whatever else is raised fails the test."""
    folder = place / "raw"
    write_base(folder, picture, clip)
    kind = mutate(seed, folder)
    try:
        summary = prepare(str(folder), place / "out", PrepareOptions(tokenizer=tokenizer))
    except DataError as error:
        message = str(error)
        message.encode()
        assert "\n" not in message
        assert len(message) < 1500
        assert str(folder) in message, "the sentence says where"
        assert not (place / "out").exists()
        return kind, REFUSED
    assert SECRET not in (summary.out / PAYLOAD_NAME).read_bytes()
    assert file_digest(summary.out / PAYLOAD_NAME) == Index(summary.out).manifest.payload_sha256
    found = TAKEN
    for split in summary.manifest.splits:
        try:
            source = PreparedSource(summary.out, split, 0, TAKERS, 4096)
        except DataError:
            return kind, REFUSED
        for index in range(len(source)):
            document, text = source.document(index), source.text(index)
            assert document.loss_tokens == (text.labels >= 0).sum()
            for entry in source.index.items(int(source.rows[index])):
                assert SECRET not in b"".join(source.index.item_files(entry, slice(None))), "nor is it referred to"
            for which, item in enumerate(document.items):
                _payload, reason = load_item_or_neutral(source, index, which, item)
                found = found if reason is None else STOOD_IN
    return kind, found


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_a_damaged_dataset_is_refused_in_a_sentence_or_read(
    seed: int, tmp_path: Path, tokenizer: Path, make_picture: MakePicture, make_clip: MakeClip
) -> None:
    outcome(seed, tmp_path, tokenizer, make_picture(8, 8), make_clip(400))


def test_nothing_is_wrong_with_what_is_not_damaged(
    tmp_path: Path, tokenizer: Path, make_picture: MakePicture, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in MUTATIONS:
        monkeypatch.setitem(MUTATIONS, kind, lambda _draw, _folder: None)
    assert outcome(0, tmp_path, tokenizer, make_picture(8, 8), make_clip(400))[1] == TAKEN


@pytest.mark.sweep
def test_a_sweep_of_damaged_datasets(
    tmp_path: Path, tokenizer: Path, make_picture: MakePicture, make_clip: MakeClip
) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for seed in range(SWEEP):
        (tmp_path / str(seed)).mkdir()
        try:
            counts[outcome(seed, tmp_path / str(seed), tokenizer, make_picture(8, 8), make_clip(400))] += 1
        except Exception as error:
            wrong.append((seed, repr(error)[:300]))
    ends = (REFUSED, TAKEN, STOOD_IN)
    lines = [f"| damage | drawn | {' | '.join(ends)} |", "|---|---|---|---|---|"]
    for kind in MUTATIONS:
        each = [counts[kind, end] for end in ends]
        lines.append(f"| {kind} | {sum(each)} | {' | '.join(map(str, each))} |")
    print("\n".join(lines))  # noqa: T201
    assert wrong == []
