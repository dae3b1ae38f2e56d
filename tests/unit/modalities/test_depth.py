"""Depth maps: judged by numpy and Pillow to the last bit, prepared and synthetic ones, and what is refused by name."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoint.config.load import load_config
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.depth.spec import DepthConfig
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.setup.data import identity_of
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from counterpoint.sources.synthetic.source import SyntheticSource
from tests.recipes import images, recipe_of, uniform
from tests.unit.items import MakeIndex, MakePicture

PARITY = Path(__file__).parents[2] / "parity"
VISION = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4, merge=2)


def depth_intake(**keys: Any) -> ImageIntake:
    """How depth maps enter a module whose section has these keys."""
    section = DepthConfig(kind="depth", **({"max_patches": 16} | keys))
    return ImageIntake("depth", section, patch=4, merge=2, channels=1, mark="<depth>")


DEPTH = depth_intake()
TAKERS: Intakes = {"depth": DEPTH, "vision": VISION}


def millimetres(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Distances, of which a quarter is unmeasured and some are far."""
    generator = np.random.default_rng([seed, height, width])
    values = generator.integers(1, 2**16, (height, width), dtype=np.uint16)
    return np.where(generator.random((height, width)) < 0.25, np.uint16(0), values)


def png(values: np.ndarray) -> bytes:
    """The bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def npy(values: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def judged(metres: np.ndarray, intake: ImageIntake) -> np.ndarray:
    """What a map becomes, patch by patch in the order of merge groups, by Pillow and numpy alone."""
    section = intake.image
    assert isinstance(section, DepthConfig)
    rows, columns = intake.grid(*metres.shape)
    side, merge = intake.patch, intake.merge
    scaled = np.asarray(Image.fromarray(metres.astype(np.float32)).resize((columns * side, rows * side), 0))
    near, far, mean, std = map(np.float32, (section.near, section.far, section.mean, section.std))
    found = []
    for top in range(0, rows, merge):
        for left in range(0, columns, merge):
            for y, x in ((y, x) for y in range(merge) for x in range(merge)):
                cell = scaled[(top + y) * side : (top + y + 1) * side, (left + x) * side : (left + x + 1) * side]
                values = ((np.minimum(np.maximum(cell, near), far) - near) / (far - near) - mean) / std
                values[cell == 0] = 0
                found.append(values.reshape(-1))
    return np.stack(found)


@pytest.mark.parametrize("keys", [{}, {"near": 0.5, "far": 40.0, "mean": 0.25, "std": 0.125}, {"size": 24}])
@pytest.mark.parametrize("size", [(16, 16), (9, 30), (41, 23)])
def test_values_equal_the_judges_to_the_last_bit(size: tuple[int, int], keys: dict[str, Any]) -> None:
    values = millimetres(*size)
    intake = depth_intake(**keys)
    rows = rows_of(intake)
    stored = np.asarray(Image.open(io.BytesIO(png(values)))).astype(np.float32)
    whole = rows.read([png(values)], size)
    assert isinstance(whole, PatchPayload)
    assert np.array_equal(whole.patches, judged(stored / np.float32(1000), intake))
    for dtype in ("float16", "float32", "float64"):
        metres = (values / 4096).astype(dtype)
        found = rows.read([npy(metres)], size)
        assert isinstance(found, PatchPayload)
        assert found.patches.dtype == np.float32
        assert np.array_equal(found.patches, judged(np.load(io.BytesIO(npy(metres))), intake))


def test_steps_of_a_metre_are_as_the_section_says() -> None:
    values = millimetres(16, 16)
    rows = rows_of(depth_intake(per_metre=5000.0))
    found = rows.read([png(values)], (16, 16))
    assert isinstance(found, PatchPayload)
    assert np.array_equal(found.patches, judged(values.astype(np.float32) / np.float32(5000), DEPTH))


def test_what_was_not_measured_is_as_what_cannot_be_read() -> None:
    rows = rows_of(DEPTH)
    empty, neutral = rows.read([png(np.zeros((12, 20), np.uint16))], (12, 20)), rows.neutral((12, 20))
    assert isinstance(empty, PatchPayload)
    assert isinstance(neutral, PatchPayload)
    assert np.array_equal(empty.patches, neutral.patches)
    assert (neutral.kind, neutral.grid) == ("depth", empty.grid)


def test_depth_maps_of_a_folder_stand_where_their_marks_did(tmp_path: Path, make_picture: MakePicture) -> None:
    source = tmp_path / "source"
    source.mkdir()
    metres = millimetres(16, 16, 1).astype(np.float32) / 1024
    (source / "a.png").write_bytes(png(millimetres(8, 16)))
    np.save(source / "b.npy", metres)
    (source / "c.png").write_bytes(make_picture(16, 16))
    turns = [{"from": "human", "value": "<depth> of <image>? <depth>"}, {"from": "gpt", "value": "yes"}]
    parts = [{"type": "depth", "depth": "a.png"}, {"type": "text", "text": "How far?"}]
    spoken = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a metre"}]
    records = [{"depth": ["a.png", "b.npy"], "image": "c.png", "conversations": turns}, {"messages": spoken}]
    (source / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    prepare(str(source), tmp_path / "out", PrepareOptions(vocabulary=300))
    prepared = PreparedSource(tmp_path / "out", "train", 0, TAKERS, 64)
    kinds = [(item.module, item.rows_in, item.rows, item.columns) for item in prepared.document(0).items]
    assert kinds == [("depth", 8, 2, 2), ("vision", 16, 4, 2), ("depth", 16, 4, 2)]
    assert [item.module for item in prepared.document(1).items] == ["depth"]
    last = prepared.item(0, 2)
    assert isinstance(last, PatchPayload)
    assert np.array_equal(last.patches, judged(metres, DEPTH))
    manifest = Index(tmp_path / "out").manifest
    assert (manifest.counts["depth_maps"], manifest.marks["depth"]) == (3, "<depth>")


def test_an_index_without_depth_maps_does_not_name_them(make_index: MakeIndex, make_picture: MakePicture) -> None:
    manifest = Index(make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(8, 8))])])).manifest
    assert "depth_maps" not in manifest.values()
    assert "depth" not in manifest.marks


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(np.zeros((4, 6), np.uint8)), "the depth map is a grey PNG of 8 bits, expected one grey channel of 16"),
        (png(np.zeros((4, 6, 3), np.uint8)), "the depth map is a coloured PNG of 8 bits, expected one grey channel"),
        (b"GIF89a" + bytes(40), r"neither a PNG nor a \.npy file; save distances as a 16-bit PNG"),
        (png(millimetres(4, 6))[:20], r"neither a PNG nor a \.npy file"),
        (npy(np.zeros((4, 6), np.uint16)), r"the depth map is uint16 \(4, 6\), expected floats \(height, width\)"),
        (npy(np.zeros((1, 4, 6))), r"the depth map is float64 \(1, 4, 6\), expected floats"),
        (npy(np.zeros((4, 6)))[:-9], r"no whole \.npy file"),
        (npy(np.full((4, 6), np.nan)), "negative, or not finite in float32, expected metres; write 0 where nothing"),
        (npy(np.full((4, 6), 1e300)), "not finite in float32"),
        (npy(np.full((4, 6), -1.0)), "negative"),
    ],
    ids=["8 bits", "colours", "no picture", "cut header", "integers", "three axes", "cut", "NaN", "large", "negative"],
)
def test_wrong_files_are_refused_with_a_sentence(data: bytes, words: str, make_index: MakeIndex) -> None:
    with pytest.raises(DataError, match=words):
        make_index([Record([1], [True], "train", "", [Encoded(0, data, "depth")])])
    with pytest.raises(DataError, match=words):
        rows_of(DEPTH).read([data], (4, 6))


def test_maps_of_another_size_or_of_too_many_pixels_are_refused() -> None:
    rows = rows_of(DEPTH)
    for data in (png(millimetres(4, 6)), npy(np.ones((4, 6)))):
        with pytest.raises(DataError, match="the depth map is 4x6 pixels, but the index says 6x4; prepare the dataset"):
            rows.read([data], (6, 4))
        with pytest.raises(DataError, match="has 4x6 pixels, more than the 23 that are decoded"):
            MODALITIES["depth"].extent(data, 23)
    with pytest.raises(DataError, match="the depth map cannot be decoded"):
        rows.read([png(millimetres(40, 60))[:-200]], (40, 60))


def test_a_bad_map_becomes_one_without_a_measurement(make_index: MakeIndex) -> None:
    index = make_index([Record([1], [True], "train", "", [Encoded(0, png(millimetres(9, 12)), "depth")])])
    with (index / PAYLOAD_NAME).open("r+b") as payload:
        payload.write(b"broken")
    source = PreparedSource(index, "train", 0, TAKERS, 64)
    (expected,) = source.document(0).items
    found, reason = load_item_or_neutral(source, 0, 0, expected)
    assert isinstance(found, PatchPayload)
    assert not found.patches.any()
    assert found.rows == expected.rows_in
    assert "neither a PNG nor" in str(reason)


def test_depth_maps_without_a_module_are_refused(make_index: MakeIndex) -> None:
    index = make_index([Record([1], [True], "train", "", [Encoded(0, png(millimetres(9, 12)), "depth")])])
    words = "1 samples hold depth maps, a modality without a module; add a vit whose image.kind is depth"
    with pytest.raises(DataError, match=words):
        PreparedSource(index, "train", 0, {"vision": VISION}, 64)


def test_synthetic_depth_maps_leave_images_as_they_are() -> None:
    keys = images(uniform(0, 2), uniform(8, 20), uniform(8, 20))
    maps = {"depth_per_document": uniform(0, 2), "depth_height": uniform(8, 20), "depth_width": uniform(8, 20)}
    with_maps, without = (
        SyntheticSource(recipe_of(50, 3, uniform(1, 9), **keys, **more), 0, TAKERS, 10**6, 50) for more in (maps, {})
    )
    seen: set[tuple[str, ...]] = set()
    for index in range(50):
        document = with_maps.document(index)
        seen.add(tuple(item.module for item in document.items))
        drawn = [item.rows_in for item in document.items if item.module == "vision"]
        assert sorted(drawn) == sorted(item.rows_in for item in without.document(index).items)
        for which, item in enumerate(document.items):
            assert (with_maps.item(index, which).kind == "depth") == (item.module == "depth")
    assert {(), ("depth",), ("vision",), ("depth", "vision")} <= seen


def test_a_fingerprint_names_depth_maps_only_where_there_are_some() -> None:
    before = identity_of(load_config(PARITY / "given.yaml")).fingerprint
    assert [key for key in before if "depth" in key] == []
    now = identity_of(load_config(PARITY / "depth.yaml")).fingerprint
    assert now["modules.depth.model.image.far"] == 10.0
    assert now["data.train.0.synthetic.without_depth"] == 0.3
