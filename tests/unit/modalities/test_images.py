import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoint.errors import DataError
from counterpoint.modalities.images.patches import cut_patches, grid_coordinates, read_patches
from counterpoint.modalities.images.pictures import image_size
from counterpoint.modalities.images.rows import lay_images
from counterpoint.modalities.images.sizes.longer import patch_grid
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake, Scaling
from tests.intakes import laid_image, with_image
from tests.unit.items import MakePicture

SETTINGS = ImageIntake("vision", ImageConfig(size=32, max_patches=64), patch=4, merge=2)
sides = st.integers(1, 5000)


@settings(deadline=None, max_examples=400)
@given(
    height=sides,
    width=sides,
    patch=st.integers(1, 32),
    merge=st.integers(1, 3),
    size=st.none() | st.integers(1, 2000),
    groups=st.integers(1, 3000),
)
def test_a_grid_keeps_to_groups_and_to_the_most(
    height: int, width: int, patch: int, merge: int, size: int | None, groups: int
) -> None:
    rows, columns = patch_grid(height, width, patch, merge, size, groups * merge**2)
    assert rows % merge == columns % merge == 0
    assert 0 < rows * columns <= groups * merge**2


@settings(deadline=None, max_examples=400)
@given(height=st.integers(100, 3000), width=st.integers(100, 3000), groups=st.integers(400, 4000))
def test_a_grid_keeps_the_aspect_where_there_is_room(height: int, width: int, groups: int) -> None:
    if max(height, width) > 4 * min(height, width):
        return
    rows, columns = patch_grid(height, width, 14, 1, None, groups)
    assert abs(rows - columns * height / width) <= 1 + height / width


@pytest.mark.parametrize(
    ("height", "width", "size", "max_patches", "expected"),
    [(72, 72, 72, 36, (6, 6)), (72, 72, 72, 16, (4, 4)), (72, 36, 72, 36, (6, 3)), (1, 5000, 72, 36, (1, 6))],
)
def test_grids_of_the_demo(height: int, width: int, size: int, max_patches: int, expected: tuple[int, int]) -> None:
    assert patch_grid(height, width, 12, 1, size, max_patches) == expected


def test_rows_are_channel_frame_row_column_and_groups_are_neighbours() -> None:
    pixels = np.arange(2 * 8 * 16 * 3, dtype=np.float32).reshape(2, 8, 16, 3)
    rows, places = cut_patches(pixels, patch=2, merge=2), grid_coordinates(4, 8, merge=2)
    assert places[:4].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert places[4].tolist() == [0, 2]
    for row, (r, c) in zip(rows, places, strict=True):
        square = pixels[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        np.testing.assert_array_equal(row.reshape(3, 2, 2, 2), square.transpose(3, 0, 1, 2))


@settings(deadline=None, max_examples=400)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_the_reader_emits_what_metadata_planned(height: int, width: int) -> None:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (0, 255, 51)).save(data, "PNG")
    assert image_size(data.getvalue()) == (height, width)
    payload = read_patches([data.getvalue()], height, width, SETTINGS)
    assert payload.grid == SETTINGS.grid(height, width)
    assert payload.patches.shape == (payload.grid[0] * payload.grid[1], SETTINGS.columns)
    assert payload.patches.dtype == np.float32
    colour = np.broadcast_to([[-1], [1], [-0.6]], (len(payload.patches), 3, 16))
    np.testing.assert_allclose(payload.patches.reshape(-1, 3, 16), colour, atol=1e-6)


def test_each_channel_has_its_mean_and_deviation() -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (0, 255, 51)).save(data, "PNG")
    scaling = Scaling("bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    payload = read_patches([data.getvalue()], 8, 8, with_image(SETTINGS, **scaling._asdict()))
    colour = np.broadcast_to([[-0.25], [1.6], [-0.1 / 0.6]], (len(payload.patches), 3, 16))
    np.testing.assert_allclose(payload.patches.reshape(-1, 3, 16), colour, atol=1e-6)


def test_transparency_lies_on_white() -> None:
    data = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(data, "PNG")
    assert (read_patches([data.getvalue()], 8, 8, SETTINGS).patches == 1).all()


def test_one_channel_and_jpeg_are_read(make_picture: MakePicture) -> None:
    grey = ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4, channels=1)
    assert read_patches([make_picture(8, 8, file_format="JPEG")], 8, 8, grey).patches.shape == (4, 16)


def test_a_rotated_photograph_is_measured_and_read_upright(make_picture: MakePicture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = make_picture(20, 40, file_format="JPEG", exif=exif)
    assert image_size(data) == (40, 20)
    assert read_patches([data], 40, 20, SETTINGS).grid == (8, 4)


def test_bad_bytes_are_data_errors(make_picture: MakePicture) -> None:
    good = make_picture(32, 32)
    for bad in (
        b"",
        b"no picture",
        good[: len(good) // 2],
        good[:-30] + bytes(30),
        good[:60] + b"\0\0\0" + good[63:],
    ):
        with pytest.raises(DataError, match="cannot be decoded"):
            read_patches([bad], 32, 32, SETTINGS)
    with pytest.raises(DataError, match="cannot be read"):
        image_size(b"no picture")
    with pytest.raises(DataError, match="32x32 pixels, but the index says 16x32"):
        read_patches([good], 16, 32, SETTINGS)


def test_an_oversized_picture_is_a_data_error(monkeypatch: pytest.MonkeyPatch, make_picture: MakePicture) -> None:
    data = make_picture(32, 32)
    with pytest.raises(DataError, match=r"32x32 pixels, more than the 100 that are decoded; scale it down, or raise"):
        image_size(data, most_pixels=100)
    with pytest.raises(DataError, match="more than the 100"):
        read_patches([data], 32, 32, with_image(SETTINGS, max_pixels=100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="has more pixels than are decoded"):
        image_size(data)


@pytest.mark.parametrize("wrong", [{"patch": 0}, {"merge": 0}, {"channels": 2}, {"merge": 9}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="module 'vision'"):
        replace(SETTINGS, **wrong)


def test_learned_rows_stand_in_their_order_before_each_image() -> None:
    intake = replace(SETTINGS, prefix=3)
    places = lay_images([laid_image(4, (2, 4), 2), laid_image(16, (2, 2), 2)], 24, intake)
    assert places.prefix.tolist() == [-1, 0, 1, 2, *[-1] * 9, 0, 1, 2, *[-1] * 8]
    assert places.coordinates[4:12].tolist() == grid_coordinates(2, 4, 2).tolist()
    assert {tuple(grid) for grid in places.grids[4:12].tolist()} == {(2, 4)}
