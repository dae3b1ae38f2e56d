"""Size rules: grids from sizes alone, the pixels that they show, and values that cannot be."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoint.config.data import DataConfig
from counterpoint.data.fingerprint import data_fingerprint, first_difference
from counterpoint.errors import DataError
from counterpoint.families.images import image_problems
from counterpoint.modalities.images.patches import read_patches
from counterpoint.modalities.images.sizes import RESIZES
from counterpoint.modalities.images.sizes.rule import SizeRule
from counterpoint.modalities.images.spec import MOST_PIXELS, ImageConfig, ImageIntake

RULES: dict[str, dict[str, Any]] = {
    "crop": {"edge": 40, "height": 32, "width": 24},
    "stretch": {"height": 32, "width": 48},
    "shortest": {"edge": 40},
    "pad": {"side": 32, "colour": [255, 0, 0]},
    "budget": {"min_pixels": 256, "max_pixels": 4096},
    "naflex": {"max_patches": 64},
    "between": {"min_patches": 16, "max_patches": 128},
    "total": {"min_pixels": 256, "max_pixels": 4096},
}


def _image(kind: str, **more: Any) -> ImageConfig:
    return ImageConfig.model_validate({"resize": {"kind": kind, **RULES[kind]}, **more})


def _intake(kind: str, **more: Any) -> ImageIntake:
    return ImageIntake("vision", _image(kind, **more), patch=4, merge=2)


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_every_rule_is_tested() -> None:
    assert set(RULES) == set(RESIZES)


@pytest.mark.parametrize("kind", RULES)
@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_the_reader_emits_what_metadata_planned(kind: str, height: int, width: int) -> None:
    intake = _intake(kind)
    rows, columns = intake.grid(height, width)
    assert rows % 2 == columns % 2 == 0
    assert min(rows, columns) >= 2
    data = _png(np.full((height, width, 3), 51, dtype=np.uint8))
    if not intake.fits((height, width)):
        with pytest.raises(DataError, match="is not taken"):
            read_patches([data], height, width, intake)
        return
    payload = read_patches([data], height, width, intake)
    assert payload.grid == (rows, columns)
    assert payload.patches.shape == (rows * columns, intake.columns)
    # Scaling changes no picture of one colour; beside it are black and the colour around it.
    levels = np.unique(((payload.patches * 0.5 + 0.5) * 255).round())
    others = {"crop": {0}, "pad": set(range(256))}.get(kind, set())
    assert 51 in levels or kind == "pad"
    assert set(levels.tolist()) <= {51, *others}


sides = st.integers(1, 20_000)


@settings(deadline=None, max_examples=300)
@given(
    height=sides, width=sides, patch=st.integers(1, 32), merge=st.integers(1, 3),
    least=st.integers(1, 10**5), more=st.integers(0, 10**6),
)  # fmt: skip
def test_a_budget_is_kept(height: int, width: int, patch: int, merge: int, least: int, more: int) -> None:
    group = (patch * merge) ** 2
    rule = RESIZES["budget"].model_validate(
        {"kind": "budget", "min_pixels": least, "max_pixels": max(least + more, group)}
    )
    rows, columns = rule.grid(height, width, patch, merge)
    assert rows % merge == columns % merge == 0
    assert min(rows, columns) >= merge
    if min(rows, columns) > merge:
        # The published rule rounds up what it enlarges, by less than a group on each side.
        area, around = rows * columns * patch**2, (rows + columns) * patch
        assert area <= rule.most(patch, merge) * patch**2 or area < least + patch * merge * around


@settings(deadline=None, max_examples=300)
@given(height=sides, width=sides, patch=st.integers(1, 32), merge=st.integers(1, 3), groups=st.integers(1, 3000))
def test_naflex_has_its_most_patches(height: int, width: int, patch: int, merge: int, groups: int) -> None:
    rule = RESIZES["naflex"].model_validate({"kind": "naflex", "max_patches": groups * merge**2})
    rows, columns = rule.grid(height, width, patch, merge)
    assert rows % merge == columns % merge == 0
    assert rows * columns <= groups * merge**2 or rule.refusal(height, width, patch, merge, MOST_PIXELS) is not None


@settings(deadline=None, max_examples=300)
@given(height=sides, width=sides, merge=st.integers(1, 3), least=st.integers(1, 2000), more=st.integers(0, 9000))
def test_patches_are_between_limits(height: int, width: int, merge: int, least: int, more: int) -> None:
    rule = RESIZES["between"].model_validate({"kind": "between", "min_patches": least, "max_patches": least + more + 9})
    rows, columns = rule.grid(height, width, 16, merge)
    assert rows % merge == columns % merge == 0
    if min(rows, columns) > merge and rule.refusal(height, width, 16, merge, MOST_PIXELS) is None and more > 8 * least:
        assert rows * columns <= least + more + 9


def _seen(kind: str, picture: np.ndarray, intake: ImageIntake | None = None) -> np.ndarray:
    """The levels that a tower sees, (height, width, 3)."""
    intake = _intake(kind) if intake is None else intake
    height, width = picture.shape[:2]
    payload = read_patches([_png(picture)], height, width, intake)
    rows, columns = payload.grid
    cut = payload.patches.reshape(rows // 2, columns // 2, 2, 2, 3, 4, 4)
    whole = cut.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * 4, columns * 4, 3)
    return ((whole * 0.5 + 0.5) * 255).round().astype(int)


def _plain(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


def test_a_crop_is_the_middle() -> None:
    picture = _plain(40, 60)
    np.testing.assert_array_equal(_seen("crop", picture), picture[4:36, 18:42])


def test_a_crop_beyond_the_picture_is_black() -> None:
    picture = _plain(10, 30)
    image = ImageConfig.model_validate({"resize": {"kind": "crop", "height": 32, "width": 16}})
    seen = _seen("crop", picture, ImageIntake("vision", image, patch=4, merge=2))
    np.testing.assert_array_equal(seen[11:21], picture[:, 7:23])
    assert not seen[:11].any()
    assert not seen[21:].any()


def test_pixels_beyond_the_last_group_are_not_seen() -> None:
    picture = _plain(40, 50)
    np.testing.assert_array_equal(_seen("shortest", picture), picture[:40, :48])


def test_a_picture_lies_in_the_middle_of_its_square() -> None:
    picture = _plain(16, 32)
    seen = _seen("pad", picture)
    np.testing.assert_array_equal(seen[8:24], picture)
    assert (seen[:8] == [255, 0, 0]).all()
    assert (seen[24:] == [255, 0, 0]).all()


def test_a_rotated_picture_is_cropped_upright() -> None:
    picture = _plain(40, 60)
    turned, data = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(picture)).save(data, "PNG", exif=turned)
    upright = read_patches([data.getvalue()], 40, 60, _intake("crop")).patches
    np.testing.assert_array_equal(upright, read_patches([_png(picture)], 40, 60, _intake("crop")).patches)


@pytest.mark.parametrize("kind", sorted(set(RULES) - {"pad"}))
def test_a_reduced_jpeg_is_about_the_same(kind: str) -> None:
    waves = np.sin(np.arange(400)[:, None] / 90) * np.cos(np.arange(700)[None] / 120)
    picture = Image.fromarray(np.repeat((127 + 120 * waves)[..., None], 3, axis=2).astype(np.uint8))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95)
    whole, reduced = (
        read_patches([data.getvalue()], 400, 700, _intake(kind, reduce=reduce)).patches for reduce in (0, 3)
    )
    assert np.abs(whole - reduced).max() <= 6 / 127.5


def test_a_picture_that_would_become_too_large_is_left_out() -> None:
    for kind, size in (("crop", (1, 5000)), ("shortest", (5000, 1)), ("pad", (1, 5000))):
        intake = _intake(kind, max_pixels=1_000_000)
        assert not intake.fits(size)
        with pytest.raises(DataError, match=r"more than the 1000000"):
            intake.view(*size)
        assert _intake(kind, max_pixels=60_000_000).fits(size)


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({}, "model.image.max_patches: got nothing, expected a number of patches"),
    "two rules": (
        {"resize": {"kind": "stretch", "height": 32, "width": 32}, "max_patches": 64},
        "model.image.max_patches: got 64, expected null, because model.image.resize says",
    ),
    "a size beside a rule": (
        {"resize": {"kind": "stretch", "height": 32, "width": 32}, "size": 64}, "model.image.size: got 64",
    ),
    "a small crop": (
        {"resize": {"kind": "crop", "height": 7, "width": 32}}, "model.image.resize: got 7 x 32 pixels, expected sides",
    ),
    "a small square": ({"resize": {"kind": "pad", "side": 7}}, "model.image.resize: got 7 pixels"),
    "a small edge": ({"resize": {"kind": "shortest", "edge": 7}}, "model.image.resize: got 7 pixels"),
    "a small budget": (
        {"resize": {"kind": "budget", "min_pixels": 1, "max_pixels": 63}}, "resize.max_pixels: got 63 pixels",
    ),
    "a budget upside down": (
        {"resize": {"kind": "budget", "min_pixels": 900, "max_pixels": 800}}, "expected at least min_pixels, 900",
    ),
    "few patches": ({"resize": {"kind": "naflex", "max_patches": 3}}, "resize.max_patches: got 3, expected at least 4"),
    "patches upside down": (
        {"resize": {"kind": "between", "min_patches": 9, "max_patches": 8}}, "expected at least min_patches, 9",
    ),
    "a reduced square": ({"resize": {"kind": "pad", "side": 32}, "reduce": 3}, "model.image.reduce: got 3, expected 0"),
}  # fmt: skip


def test_the_rule_of_videos_has_problems_at_its_key() -> None:
    keys = {"max_patches": 64, "video": {"kind": "total", "max_pixels": 63, "min_pixels": 1}}
    (problem,) = image_problems("model", ImageConfig.model_validate(keys), 4, 2)
    assert str(problem).startswith("model.image.video.max_pixels: got 63 pixels, expected at least 64")


@pytest.mark.parametrize("name", PROBLEMS)
def test_values_that_cannot_be_are_one_sentence(name: str) -> None:
    keys, expected = PROBLEMS[name]
    (problem,) = image_problems("model", ImageConfig.model_validate(keys), 4, 2)
    assert expected in str(problem)


@pytest.mark.parametrize("kind", RULES)
def test_possible_values_are_no_problem(kind: str) -> None:
    assert list(image_problems("model", _image(kind), 4, 2)) == []


def test_a_rule_without_a_group_is_no_intake() -> None:
    with pytest.raises(DataError, match=r"resize 7 pixels is smaller than one group of merge x merge = 4"):
        ImageIntake("vision", ImageConfig.model_validate({"resize": {"kind": "pad", "side": 7}}), patch=4, merge=2)
    with pytest.raises(DataError, match="got no max_patches"):
        ImageIntake("vision", ImageConfig(), patch=4)


def _fingerprint(image: ImageConfig) -> dict[str, Any]:
    recipe = {"documents": 1, "text_tokens": {"kind": "constant", "value": 8}}
    data = DataConfig.model_validate({"sequence_tokens": 8, "train": [{"synthetic": recipe}]})
    return dict(data_fingerprint(data, 1, {"vision": ImageIntake("vision", image, patch=4, merge=2)}))


def test_the_rule_is_in_the_fingerprint_of_data() -> None:
    before = _fingerprint(ImageConfig(size=32, max_patches=64))
    assert not [key for key in before if "resize" in key]
    where = "modules.vision.model.image.resize"
    now = _fingerprint(ImageConfig.model_validate({"size": 32, "max_patches": 64, "video": {"kind": "total"}}))
    assert first_difference(before, now) == "modules.vision.model.image.video.kind"
    for kind, keys in RULES.items():
        now = _fingerprint(_image(kind))
        assert first_difference(before, now) == f"{where}.kind"
        for key, value in keys.items():
            other = [0, 0, 0] if isinstance(value, list) else value + 8
            changed = _fingerprint(ImageConfig.model_validate({"resize": {"kind": kind, **keys, key: other}}))
            assert first_difference(now, changed) == f"{where}.{key}"


def test_a_rule_of_ones_own_is_chosen_by_its_name() -> None:
    class OneGroup(SizeRule):
        """One group of patches for each picture."""

        def grid(self, height: int, width: int, patch: int, merge: int) -> tuple[int, int]:
            return merge, merge

        def most(self, patch: int, merge: int) -> int:
            return merge**2

    RESIZES.register("one_group", OneGroup)
    try:
        intake = ImageIntake("vision", ImageConfig(resize=OneGroup(kind="one_group")), patch=4, merge=2)
        assert read_patches([_png(_plain(9, 30))], 9, 30, intake).grid == (2, 2)
    finally:
        RESIZES.hide("one_group", OneGroup)
