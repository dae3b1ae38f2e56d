"""Images and clips of the same documents: prepared, synthetic, and where one stands for the other."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes, Payload
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.clips.windows import ClipPayload
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.plan.samples import Document, Item
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from counterpoint.sources.synthetic.source import SyntheticSource
from tests.recipes import constant, recipe_of, uniform
from tests.unit.items import MakeClip, MakeIndex, MakePicture

VISION = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4, merge=2)
AUDIO = ClipIntake("audio", mels=8, window=5, stride=2, stack=2, positions=20)
TAKERS: Intakes = {"vision": VISION, "audio": AUDIO}
ROW = 2 * 160


@pytest.fixture
def folder(make_index: MakeIndex, make_picture: MakePicture, make_clip: MakeClip) -> Path:
    """A document with a clip, an image and a clip at one place, and one without an item."""
    items = [
        Encoded(1, make_clip(5 * ROW), "audio"),
        Encoded(1, make_picture(16, 16)),
        Encoded(1, make_clip(ROW), "audio"),
    ]
    plain = Record([1, 2], [True, True], "train", "two")
    return make_index([Record([1, 5, 6], [False, True, True], "train", "five six", items), plain])


def test_items_of_both_kinds_keep_their_order(folder: Path) -> None:
    source = PreparedSource(folder, "train", 0, TAKERS, 64)
    items = (Item("audio", 1, 6, 3, None), Item("vision", 4, 16, 4, 2), Item("audio", 8, 2, 1, None))
    assert source.document(0) == Document(0, 0, 11, 2, items)
    assert source.text(0).ids.tolist() == [1, *[-1] * 8, 5, 6]
    assert [source.extent(0, which) for which in range(3)] == [(5 * ROW,), (16, 16), (ROW,)]
    assert [source.item(0, which).kind for which in range(3)] == ["audio", "image", "audio"]
    manifest = Index(folder).manifest
    assert (manifest.counts["images"], manifest.counts["clips"], manifest.counts["features"]) == (1, 2, 0)
    assert manifest.marks == {"image": "<image>", "audio": "<audio>", "features": "<features>"}


def test_clips_without_a_module_or_at_another_mark_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="1 samples hold clips, a modality without a module; add an audio module"):
        PreparedSource(folder, "train", 0, {"vision": VISION}, 64)
    with pytest.raises(DataError, match="its clips stand at the mark '<audio>', but the edges take '<x>' of module au"):
        PreparedSource(folder, "train", 0, {"vision": VISION, "audio": replace(AUDIO, mark="<x>")}, 64)


def test_a_clip_longer_than_the_module_takes_leaves_its_sample_out(make_index: MakeIndex, make_clip: MakeClip) -> None:
    lengths = (AUDIO.most_samples, AUDIO.most_samples + 1)
    records = [Record([n], [True], "train", str(n), [Encoded(0, make_clip(n), "audio")]) for n in lengths]
    source = PreparedSource(make_index(records), "train", 0, TAKERS, 64)
    assert (len(source), source.excluded, source.caption(0)) == (1, 1, str(AUDIO.most_samples))


@pytest.mark.parametrize(("first", "length"), [(0, 8), (24, 4), (40, 4)])
def test_a_bad_clip_becomes_silence_of_the_planned_size(
    make_index: MakeIndex, make_clip: MakeClip, first: int, length: int
) -> None:
    index = make_index([Record([1], [True], "train", "", [Encoded(0, make_clip(900), "audio")])])
    source = PreparedSource(index, "train", 0, TAKERS, 64)
    (expected,) = source.document(0).items
    good, no_reason = load_item_or_neutral(source, 0, 0, expected)
    assert no_reason is None
    data = bytearray((index / PAYLOAD_NAME).read_bytes())
    data[first : first + length] = bytes(length)
    (index / PAYLOAD_NAME).write_bytes(data)
    neutral, reason = load_item_or_neutral(source, 0, 0, expected)
    assert "document 0, item 0" in str(reason)
    assert isinstance(neutral, ClipPayload)
    assert isinstance(good, ClipPayload)
    assert not neutral.frames.any()
    assert neutral.frames.shape == good.frames.shape
    assert np.array_equal(neutral.filled, good.filled)


@dataclass
class Confused:
    """A source that hands out an image where a clip is expected."""

    intakes: Intakes
    excluded: int = 0

    def item(self, _index: int, _which: int) -> Payload:
        return ImageRows(VISION).neutral((16, 16))

    def extent(self, _index: int, _which: int) -> tuple[int]:
        return (ROW * 16,)


def test_a_payload_of_the_wrong_kind_is_refused_by_name() -> None:
    confused = Confused(TAKERS)
    payload, reason = load_item_or_neutral(confused, 3, 0, Item("audio", 0, 16, 8, None))  # type: ignore[arg-type]
    assert isinstance(payload, ClipPayload)
    assert payload.rows == 16
    assert "document 3, item 0: the reader emitted 16 patches on a grid 4x4, of kind image" in str(reason)
    assert "the module takes kind audio" in str(reason)


RECIPE = recipe_of(
    documents=100, seed=3, text_tokens=uniform(1, 20), images_per_document=uniform(0, 2), image_height=uniform(8, 30),
    image_width=uniform(8, 30), audio_per_document=uniform(0, 2), audio_milliseconds=uniform(1, 600),
    without_audio=0.3,
)  # fmt: skip


def test_synthetic_clips_are_a_function_of_seed_and_index_and_agree_with_their_metadata() -> None:
    source, again = (SyntheticSource(RECIPE, 0, TAKERS, 64, 50) for _ in range(2))
    kinds: list[tuple[str, ...]] = []
    for index in range(100):
        document, text = source.document(index), source.text(index)
        assert document == again.document(index)
        assert document.tokens == len(text.ids) <= 64
        kinds.append(tuple(item.module for item in document.items))
        for which, item in enumerate(document.items):
            payload, reason = load_item_or_neutral(source, index, which, item)
            assert reason is None
            assert payload.rows == item.rows_in == item.rows * (4 if item.module == "vision" else 2)
            if isinstance(payload, ClipPayload):
                other = again.item(index, which)
                assert isinstance(other, ClipPayload)
                assert np.array_equal(payload.frames, other.frames)
                assert item.columns is None
    longest = max(item.rows_in for i in range(100) for item in source.document(i).items if item.module == "audio")
    assert longest == AUDIO.positions
    assert {("vision", "audio"), ("audio", "vision"), ("audio",), ("vision",), ()} <= set(kinds)


def test_clips_leave_images_as_they_are_without_them() -> None:
    """Of documents whose items all fit."""
    silent = RECIPE.model_copy(update={"audio_per_document": constant(0)})
    with_clips, without = (SyntheticSource(recipe, 0, TAKERS, 10**6, 50) for recipe in (RECIPE, silent))
    for index in range(50):
        ours = [item.rows_in for item in with_clips.document(index).items if item.module == "vision"]
        assert sorted(ours) == sorted(item.rows_in for item in without.document(index).items)


def test_synthetic_clips_without_a_module_are_refused() -> None:
    with pytest.raises(DataError, match="it declares clips, a modality without a module; add an audio module"):
        SyntheticSource(RECIPE, 0, {"vision": VISION}, 64, 50)


@pytest.fixture
def write_folder(tmp_path: Path, make_picture: MakePicture, make_clip: MakeClip) -> Callable[[object], Path]:
    def write(line: object) -> Path:
        raw = tmp_path / "raw"
        raw.mkdir()
        (raw / "a.png").write_bytes(make_picture(16, 16))
        (raw / "a.wav").write_bytes(make_clip(ROW * 4))
        (raw / "train.jsonl").write_text(json.dumps(line))
        return raw

    return write


def turns(question: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "nine"}]


def test_conversations_have_clips_beside_images(write_folder: Callable[[object], Path], tmp_path: Path) -> None:
    line = {"image": "a.png", "audio": ["a.wav", "a.wav"], "conversations": turns("<audio>a<image>b<audio>")}
    prepare(str(write_folder(line)), tmp_path / "out", PrepareOptions(vocabulary=300))
    source = PreparedSource(tmp_path / "out", "train", 0, TAKERS, 64)
    assert [item.module for item in source.document(0).items] == ["audio", "vision", "audio"]
    assert source.caption(0) == "ab\nnine"


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (
            {"audio": "a.wav"},
            "<audio><audio>",
            "2 marks <audio> for 1 clips; expected one mark in the text for each clip",
        ),
        ({"audio": "b.wav"}, "<audio>", r"clip b\.wav is missing in .*raw; correct the name or add the file"),
        ({"audio": 3}, "hm", "expected 'audio' to be a file name or a list"),
    ],
)
def test_bad_clips_of_a_conversation_are_refused(
    line: dict[str, object], text: str, message: str, write_folder: Callable[[object], Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(
            str(write_folder(line | {"conversations": turns(text)})), tmp_path / "out", PrepareOptions(vocabulary=300)
        )


def test_an_image_in_the_place_of_a_clip_is_refused(write_folder: Callable[[object], Path], tmp_path: Path) -> None:
    raw = write_folder({"audio": "a.png", "conversations": turns("<audio>")})
    with pytest.raises(DataError, match=r"train\.jsonl:1: file .*a\.png: the clip's bytes are of no kind of file"):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))
