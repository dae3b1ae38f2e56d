"""Videos: pictures that a module merges `frames` at a time into items of their own."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from counterpoint.config.load import load_config
from counterpoint.data.feed.positions import lay_positions
from counterpoint.data.feed.reader import Reader
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.models.batch import PatchBatch
from counterpoint.plan.samples import Document, Item
from counterpoint.setup.run import prepare_run
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.items import MakeClip, MakeIndex, patches_of

SINGLE = ImageIntake("vision", ImageConfig(max_patches=16), patch=4, merge=2)
PAIRS = replace(SINGLE, frames=2)
SIZE = (16, 8)


def _picture(number: int, size: tuple[int, int] = SIZE) -> bytes:
    """Encoded noise, another for every number."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def _video(position: int, pictures: Sequence[bytes]) -> Encoded:
    return Encoded(position, pictures[0], further=tuple(pictures[1:]))


FILM = [_picture(number) for number in range(5)]


@pytest.fixture
def folder(make_index: MakeIndex) -> Path:
    """A document with a video of five pictures and an image, both before its second token."""
    items = [_video(1, FILM), Encoded(1, _picture(9))]
    return make_index([Record([1, 5, 6], [False, True, True], "train", "five six", items)])


def _merged(*pictures: bytes) -> np.ndarray:
    """Patches of pictures, one for each frame, from what each is as an image of its own."""
    alone = [ImageRows(SINGLE).read([picture], SIZE).patches.reshape(8, 3, 1, 16) for picture in pictures]
    return np.concatenate(alone, axis=2).reshape(8, 3 * len(pictures) * 16)


def test_five_pictures_are_three_items_of_two_frames_and_the_last_is_shown_twice(folder: Path) -> None:
    source = PreparedSource(folder, "train", 0, {"vision": PAIRS}, 64)
    items = tuple(Item("vision", 1 + 2 * number, 8, 2, 1) for number in range(4))
    assert source.document(0) == Document(0, 0, 11, 2, items)
    assert source.text(0).ids.tolist() == [1, *[-1] * 8, 5, 6]
    shown = [(FILM[0], FILM[1]), (FILM[2], FILM[3]), (FILM[4], FILM[4]), (_picture(9), _picture(9))]
    for which, pictures in enumerate(shown):
        payload = source.item(0, which)
        assert isinstance(payload, PatchPayload)
        assert (source.extent(0, which), payload.grid) == (SIZE if which == 3 else (*SIZE, 5), (4, 2))
        np.testing.assert_array_equal(payload.patches, _merged(*pictures))


@pytest.mark.parametrize(("frames", "shown"), [(3, (3, 4, 4)), (4, (4, 4, 4, 4)), (8, (0, 1, 2, 3, 4, 4, 4, 4))])
def test_the_last_picture_is_shown_in_the_frames_that_are_left(folder: Path, frames: int, shown: Sequence[int]) -> None:
    source = PreparedSource(folder, "train", 0, {"vision": replace(SINGLE, frames=frames)}, 64)
    *_earlier, last, _image = (source.item(0, which) for which in range(len(source.document(0).items)))
    assert isinstance(last, PatchPayload)
    np.testing.assert_array_equal(last.patches, _merged(*(FILM[number] for number in shown)))


@pytest.mark.parametrize(("frames", "items"), [(1, 6), (2, 4), (3, 3), (8, 2)])
def test_how_many_items_a_video_is_follows_from_metadata(folder: Path, frames: int, items: int) -> None:
    (folder / PAYLOAD_NAME).write_bytes(bytes((folder / PAYLOAD_NAME).stat().st_size))
    takers = {"vision": replace(SINGLE, frames=frames)}
    source = PreparedSource(folder, "train", 0, takers, 1 + 2 * items)
    assert [item.rows for item in source.document(0).items] == [2] * items
    assert source.document(0).tokens == 1 + 2 * items, "text behind the items is cut off"
    with pytest.raises(DataError, match="none of its 1 samples fits into"):
        PreparedSource(folder, "train", 0, takers, 2 * items)


VIDEO_RULES = {
    "stretch": ({"height": 8, "width": 8}, (2, 2)),
    # Five pictures of 16 x 8, in pairs: four times 128 pixels, and what they are scaled to is at most 64 each.
    "total": ({"min_pixels": 1, "max_pixels": 320}, (2, 2)),
    "budget": ({"min_pixels": 512, "max_pixels": 4096}, (8, 4)),
}


@pytest.mark.parametrize("kind", VIDEO_RULES)
def test_pictures_of_a_video_have_a_size_rule_of_their_own(folder: Path, kind: str) -> None:
    keys, grid = VIDEO_RULES[kind]
    image = ImageConfig.model_validate({"max_patches": 16, "video": {"kind": kind, **keys}})
    source = PreparedSource(folder, "train", 0, {"vision": replace(PAIRS, image=image)}, 64)
    *parts, single = source.document(0).items
    assert [part.rows_in for part in parts] == [grid[0] * grid[1]] * 3
    assert single.rows_in == 8
    for which in range(4):
        payload, error = load_item_or_neutral(source, 0, which, source.document(0).items[which])
        assert error is None
        assert isinstance(payload, PatchPayload)
        assert payload.grid == (grid if which < 3 else (4, 2))
    damaged = folder / PAYLOAD_NAME
    damaged.write_bytes(bytes(damaged.stat().st_size))
    payload, error = load_item_or_neutral(source, 0, 0, parts[0])
    assert (error is not None, payload.rows) == (True, parts[0].rows_in)


def test_a_video_that_its_rule_refuses_is_left_out(make_index: MakeIndex) -> None:
    long = [_picture(number, (1, 201)) for number in range(2)]
    records = [Record([1, 5], [False, True], "train", text, [item]) for text, item in (
        ("a video", _video(1, long)), ("a picture", Encoded(1, long[0])),
    )]  # fmt: skip
    image = ImageConfig.model_validate({"max_patches": 16, "video": {"kind": "total"}})
    source = PreparedSource(make_index(records), "train", 0, {"vision": replace(PAIRS, image=image)}, 64)
    assert (len(source), source.excluded, source.caption(0)) == (1, 1, "a picture")


def test_every_item_of_a_video_advances_positions_like_an_image(folder: Path) -> None:
    document = PreparedSource(folder, "train", 0, {"vision": PAIRS}, 64).document(0)
    image = [[0, 0, 0], [0, 1, 0]]
    shown = [[time + 1 + 2 * number for time in place] for number in range(4) for place in image]
    assert lay_positions(document, 3).tolist() == [[0, 0, 0], *shown, [9, 9, 9], [10, 10, 10]]


def test_what_a_video_is_stands_in_the_index(folder: Path) -> None:
    index = Index(folder)
    video, image = index.items(0)
    assert (video.kind, video.extent, video.lengths) == ("image", SIZE, tuple(map(len, FILM)))
    assert index.item_files(video, slice(2, 4)) == FILM[2:4]
    assert index.item_files(video, slice(4, 6)) == FILM[4:]
    assert index.item_files(image, slice(2)) == [_picture(9)]
    assert (index.manifest.counts["images"], index.manifest.counts["videos"]) == (1, 1)


def test_a_bad_picture_makes_its_own_item_neutral_and_no_other(folder: Path) -> None:
    source = PreparedSource(folder, "train", 0, {"vision": PAIRS}, 64)
    items = source.document(0).items
    good = [source.item(0, which) for which in range(4)]
    data = bytearray((folder / PAYLOAD_NAME).read_bytes())
    first = sum(map(len, FILM[:3]))
    data[first : first + 8] = bytes(8)
    (folder / PAYLOAD_NAME).write_bytes(data)
    for which, (item, before) in enumerate(zip(items, good, strict=True)):
        payload, reason = load_item_or_neutral(source, 0, which, item)
        assert isinstance(payload, PatchPayload)
        assert isinstance(before, PatchPayload)
        assert payload.patches.shape == before.patches.shape
        if which == 1:
            assert "document 0, item 1: the image bytes cannot be decoded" in str(reason)
            assert not payload.patches.any()
        else:
            assert reason is None
            np.testing.assert_array_equal(payload.patches, before.patches)


def test_what_is_no_video_is_not_written(tmp_path: Path, make_clip: MakeClip) -> None:
    with IndexWriter(tmp_path / "index") as writer:
        for item, message in (
            (_video(0, [FILM[0], FILM[1], _picture(2, (8, 16))]), "picture 3 of the 3 of a video is 8x16 pixels, but"),
            (_video(0, [FILM[0], b"none"]), "cannot be read"),
            (Encoded(0, make_clip(900), "audio", (make_clip(900),)), "an item of kind audio has 2 files, expected one"),
        ):
            with pytest.raises(DataError, match=message):
                writer.add(Record([1], [True], "train", "", [item]))


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[[object], Path]:
    """A folder of one record beside the pictures f0.png to f4.png, one of another size and one that is none."""

    def write(line: object) -> Path:
        raw = tmp_path / "raw"
        raw.mkdir()
        for number, data in enumerate(FILM):
            (raw / f"f{number}.png").write_bytes(data)
        (raw / "wide.png").write_bytes(_picture(0, (8, 16)))
        (raw / "broken.png").write_bytes(b"no picture")
        (raw / "train.jsonl").write_text(json.dumps(line) + "\n")
        return raw

    return write


def _turns(question: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "nine"}]


def test_a_conversation_has_videos_at_one_mark_each(write_folder: Callable[[object], Path], tmp_path: Path) -> None:
    videos = [["f0.png", "f1.png", "f2.png"], ["wide.png"]]
    line = {"video": videos, "image": "f3.png", "conversations": _turns("<video>a<image>b<video>")}
    summary = prepare(str(write_folder(line)), tmp_path / "out", PrepareOptions(vocabulary=300))
    counts = summary.manifest.counts
    assert (counts["images"], counts["videos"]) == (2, 1), "a video of one picture is an image"
    source = PreparedSource(tmp_path / "out", "train", 0, {"vision": PAIRS}, 64)
    assert [source.extent(0, which) for which in range(4)] == [(*SIZE, 3), (*SIZE, 3), SIZE, (8, 16)]
    patches = [patches_of(source.item(0, which)).patches for which in range(3)]
    shown = [(FILM[0], FILM[1]), (FILM[2], FILM[2]), (FILM[3], FILM[3])]
    np.testing.assert_array_equal(patches, [_merged(*pictures) for pictures in shown])
    assert source.caption(0) == "ab\nnine"


def test_one_video_needs_no_list_around_it(write_folder: Callable[[object], Path], tmp_path: Path) -> None:
    line = {"video": ["f0.png", "f1.png"], "conversations": _turns("<video>?")}
    assert (
        prepare(str(write_folder(line)), tmp_path / "out", PrepareOptions(vocabulary=300)).manifest.counts["videos"]
        == 1
    )


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("f0.png", r"file .*f0\.png: the video's bytes are of no kind of file that is read, expected MP4"),
        (
            [[]],
            "expected 'video' to be a video file, a list of the file names of its pictures, or a list of",
        ),
        (["f0.png", 3], "expected 'video' to be a video file, a list of the file names"),
        ([["f0.png"], ["f1.png"]], "1 marks <video> for 2 videos; expected one mark in the text for each video"),
        (["f0.png", "f9.png"], r"picture f9\.png is missing in .*raw; correct the name or add the file"),
        (["f0.png", "wide.png"], r"picture .*wide\.png is 8x16 pixels, but the first of its video, .*f0\.png, is 16x8"),
        (["f0.png", "broken.png"], r"picture .*broken\.png: the image bytes cannot be read"),
    ],
)
def test_a_bad_video_of_a_conversation_is_refused_by_name(
    video: object, message: str, write_folder: Callable[[object], Path], tmp_path: Path
) -> None:
    raw = write_folder({"video": video, "conversations": _turns("<video>?")})
    with pytest.raises(DataError, match=rf"train\.jsonl:1: {message}"):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))
    assert not (tmp_path / "out").exists()


def test_an_encoder_rank_reads_each_item_of_a_video_as_an_image_seen_by_itself(folder: Path) -> None:
    towers = Path(__file__).parents[2] / "parity" / "tiny.yaml"
    config = load_config(
        towers,
        [
            f"data.train=[{{path: {folder}, split: train}}]", "modules.vision.model.frames=2",
            "modules.vision.model.patch=4", "modules.vision.model.merge=2",
            "modules.vision.model.image={size: null, max_patches: 16}",
            "training.global_batch_samples=1", "schedule.microbatches=1",
        ],
    )  # fmt: skip
    plan, _models, corpus = prepare_run(config)
    reader = Reader(plan, plan.layouts["vision"].ranks[0], corpus.sources, torch.float32)
    batch = reader.read(plan.batch(0, corpus.packs(0))).batches["vision", 0]
    assert isinstance(batch, PatchBatch)
    shown = [(FILM[0], FILM[1]), (FILM[2], FILM[3]), (FILM[4], FILM[4]), (_picture(9), _picture(9))]
    np.testing.assert_array_equal(batch.patches.numpy(), np.concatenate([_merged(*pictures) for pictures in shown]))
    assert batch.segments.lengths == (8, 8, 8, 8)


def test_every_bad_item_of_a_step_is_reported(folder: Path) -> None:
    towers = Path(__file__).parents[2] / "parity" / "tiny.yaml"
    config = load_config(
        towers,
        [
            f"data.train=[{{path: {folder}, split: train}}]", "modules.vision.model.frames=2",
            "modules.vision.model.image={size: null, max_patches: 16}",
            "training.global_batch_samples=1", "schedule.microbatches=1",
        ],
    )  # fmt: skip
    plan, _models, corpus = prepare_run(config)
    batch = plan.batch(0, corpus.packs(0))
    data = (folder / PAYLOAD_NAME).read_bytes()
    (folder / PAYLOAD_NAME).write_bytes(bytes(len(data)))
    read = Reader(plan, plan.layouts["vision"].ranks[0], corpus.sources, torch.float32).read(batch)
    assert [(payload.source, payload.index) for payload in read.bad] == [(0, 0)] * 4
    assert len({payload.reason for payload in read.bad}) == 4
