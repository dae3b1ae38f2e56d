"""Features that were computed beforehand: arrays in an index, synthetic ones, and what is refused by name."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.features.arrays import FeaturePayload, array_size, read_array
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.rows import pack_items
from counterpoint.models.batch import GivenBatch
from counterpoint.plan.samples import Item
from counterpoint.sources.prepared.index import PAYLOAD_NAME, Index
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.source import load_item_or_neutral
from counterpoint.sources.synthetic.source import SyntheticSource
from tests.recipes import constant, recipe_of, uniform
from tests.unit.items import MakeIndex, MakePicture

GIVEN = FeatureIntake("given", width=6)
VISION = ImageIntake("vision", ImageConfig(size=16, max_patches=16), patch=4, merge=2)
TAKERS: Intakes = {"given": GIVEN, "vision": VISION}


def features(rows: int, width: int = 6, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Noise, rounded so that half precision holds it."""
    return np.random.default_rng(seed).integers(-8, 9, (rows, width)).astype(dtype)


def saved(values: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_features_of_a_folder_stand_where_their_marks_did(tmp_path: Path, make_picture: MakePicture) -> None:
    source = tmp_path / "source"
    source.mkdir()
    np.save(source / "a.npy", features(3))
    np.save(source / "b.npy", features(2, dtype="float16", seed=1))
    (source / "c.png").write_bytes(make_picture(16, 16))
    turns = [
        {"from": "human", "value": "<features> like <image>? <features>"},
        {"from": "gpt", "value": "yes"},
    ]
    record = {"features": ["a.npy", "b.npy"], "image": "c.png", "conversations": turns}
    (source / "train.jsonl").write_text(json.dumps(record) + "\n")
    prepare(str(source), tmp_path / "out", PrepareOptions(vocabulary=300))
    prepared = PreparedSource(tmp_path / "out", "train", 0, TAKERS, 64)
    (document,) = (prepared.document(0),)
    kinds = [(item.module, item.rows_in, item.rows, item.columns) for item in document.items]
    assert kinds == [("given", 3, 3, None), ("vision", 16, 4, 2), ("given", 2, 2, None)]
    first, last = prepared.item(0, 0), prepared.item(0, 2)
    assert isinstance(first, FeaturePayload)
    assert isinstance(last, FeaturePayload)
    assert np.array_equal(first.values, features(3))
    assert np.array_equal(last.values, features(2, seed=1))
    assert last.values.dtype == np.float32
    assert Index(tmp_path / "out").manifest.counts["features"] == 2


def test_features_of_another_width_are_refused_by_name(make_index: MakeIndex) -> None:
    index = make_index([Record([1], [True], "train", "", [Encoded(0, saved(features(3, width=5)), "features")])])
    words = (
        r"index: module 'given' takes features 6 wide, but there are some that are 5 wide; set modules\.given\.model"
    )
    with pytest.raises(DataError, match=words):
        PreparedSource(index, "train", 0, TAKERS, 64)


def test_items_of_the_wrong_kind_are_refused_by_name(make_index: MakeIndex, make_picture: MakePicture) -> None:
    pictures = make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(8, 8))])], "pictures")
    with pytest.raises(DataError, match="1 samples hold images, a modality without a module; add a vision module"):
        PreparedSource(pictures, "train", 0, {"given": GIVEN}, 64)
    arrays = make_index([Record([1], [True], "train", "", [Encoded(0, saved(features(2)), "features")])], "arrays")
    with pytest.raises(DataError, match="1 samples hold features, a modality without a module; add a module of kind f"):
        PreparedSource(arrays, "train", 0, {"vision": VISION}, 64)
    with pytest.raises(DataError, match=r"the features' bytes are no \.npy file .*; save it with numpy\.save"):
        make_index([Record([1], [True], "train", "", [Encoded(0, make_picture(8, 8), "features")])], "mixed")
    with pytest.raises(DataError, match="image bytes cannot be read"):
        make_index([Record([1], [True], "train", "", [Encoded(0, saved(features(2)), "image")])], "mixed")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (features(4, dtype="int64"), "int64"),
        (features(4)[0], r"float32 \(6,\)"),
        (features(4)[:0], r"float32 \(0, 6\)"),
        (np.array([[{}]], dtype=object), r"no \.npy file"),
    ],
    ids=["integers", "a vector", "no rows", "objects"],
)
def test_arrays_of_another_form_are_refused(values: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        array_size(saved(values))
    with pytest.raises(DataError, match=words):
        read_array(saved(values))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    values = np.zeros((2, 3))
    values[1, 1] = value
    with pytest.raises(DataError, match="a number that is not finite in float32"):
        read_array(saved(values))


@pytest.mark.parametrize(("place", "byte"), [(8, ord("9")), (22, ord("0"))])
def test_a_damaged_header_is_refused_with_a_sentence(place: int, byte: int) -> None:
    data = bytearray(saved(features(2)))
    data[place] = byte
    for damaged in (bytes(data), b"PK\x03\x04" + bytes(data)):
        with pytest.raises(DataError, match=r"no \.npy file"):
            read_array(damaged)


def test_bad_features_become_zeros_of_the_planned_size(make_index: MakeIndex) -> None:
    index = make_index([Record([1], [True], "train", "", [Encoded(0, saved(features(3)), "features")])])
    with (index / PAYLOAD_NAME).open("r+b") as payload:
        payload.write(b"broken")
    source = PreparedSource(index, "train", 0, TAKERS, 64)
    (expected,) = source.document(0).items
    payload_found, reason = load_item_or_neutral(source, 0, 0, expected)
    assert isinstance(payload_found, FeaturePayload)
    assert np.array_equal(payload_found.values, np.zeros((3, 6), np.float32))
    assert r"no .npy file" in str(reason)


def test_synthetic_features_are_a_function_of_seed_and_index_and_leave_images_as_they_are() -> None:
    recipe = recipe_of(
        documents=50, seed=3, text_tokens=uniform(1, 9), images_per_document=uniform(0, 2), image_height=uniform(8, 20),
        image_width=uniform(8, 20), features_per_document=uniform(0, 2), feature_rows=uniform(1, 5),
        without_features=0.3,
    )  # fmt: skip
    one, other = (SyntheticSource(recipe, 0, TAKERS, 10**6, 50) for _ in range(2))
    seen: set[tuple[str, ...]] = set()
    for index in range(50):
        document = one.document(index)
        assert document == other.document(index)
        assert len(one.text(index).ids) == document.tokens
        seen.add(tuple(item.module for item in document.items))
        for which, item in enumerate(document.items):
            payload = one.item(index, which)
            assert payload.rows == item.rows_in
            if item.module == "given":
                assert isinstance(payload, FeaturePayload)
                assert payload.values.shape[1] == 6
    assert {(), ("given",), ("vision",), ("given", "vision")} <= seen
    silent = SyntheticSource(
        recipe_of(
            documents=50, seed=3, text_tokens=uniform(1, 9), images_per_document=uniform(0, 2),
            image_height=uniform(8, 20), image_width=uniform(8, 20),
        ), 0, TAKERS, 10**6, 50,
    )  # fmt: skip
    for index in range(50):
        images = [item.rows_in for item in one.document(index).items if item.module == "vision"]
        assert sorted(images) == sorted(item.rows_in for item in silent.document(index).items)


def test_synthetic_features_without_a_module_are_refused() -> None:
    recipe = recipe_of(documents=1, seed=0, text_tokens=constant(3), features_per_document=constant(1))
    with pytest.raises(DataError, match="it declares features, a modality without a module; add a module of kind feat"):
        SyntheticSource(recipe, 0, {"vision": VISION}, 64, 50)


def test_packed_features_are_whole_items_behind_each_other() -> None:
    items = [Item("given", 0, 2, 2, None), Item("given", 0, 3, 3, None)]
    payloads = [FeaturePayload(features(2)), FeaturePayload(features(3, seed=1))]
    batch, kept = pack_items(GIVEN, list(zip(items, payloads)), torch.float64)
    assert isinstance(batch, GivenBatch)
    assert torch.equal(batch.values, torch.from_numpy(np.concatenate([features(2), features(3, seed=1)])).double())
    assert (batch.segments.lengths, kept.tolist()) == ((2, 3), [0, 1, 2, 3, 4])
    assert items[0] == Item("given", 0, *GIVEN.place((2, 6))[1:])
