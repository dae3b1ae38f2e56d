"""Images that decoders trip over: broken metadata, and more bits than eight."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from counterpoint.data.images import ItemSettings, image_size, read_patches
from counterpoint.errors import DataError

GREY = ItemSettings("vision", patch=4, merge=1, size=8, max_patches=4, channels=1)


def _png(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


@pytest.mark.parametrize(("level", "expected"), [(0, -1.0), (2**15, 1 / 255), (2**16 - 1, 1.0)])
def test_sixteen_bits_are_scaled(level: int, expected: float) -> None:
    data = _png(Image.fromarray(np.full((8, 8), level, dtype=np.uint16)))
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode.startswith("I"), "PIL keeps the sixteen bits"
    patches = read_patches([data], 8, 8, GREY).patches
    np.testing.assert_allclose(patches, expected, atol=1e-6)


def test_eight_bits_stay_as_they_are() -> None:
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    patches = read_patches([_png(Image.fromarray(levels))], 8, 8, GREY).patches
    assert sorted(np.round((patches.reshape(-1) / 2 + 0.5) * 255).astype(int)) == list(range(64))


def test_metadata_that_cannot_be_packed_is_a_data_error() -> None:
    """An orientation makes PIL write the metadata anew, and here the image's width is a text."""
    width = struct.pack(">HHII", 0x0100, 2, 10, 38)
    rotated = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + width + rotated + struct.pack(">I", 0) + b"a picture\0"
    data = _png(Image.new("L", (8, 8)), exif=exif)
    assert image_size(data) == (8, 8)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_patches([data], 8, 8, GREY)
