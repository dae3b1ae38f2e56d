"""Images that decoders trip over: broken metadata, and more bits than eight."""

import io

import numpy as np
import pytest
from PIL import Image

from counterpoint.modalities.images.patches import read_patches
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake

GREY = ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4, channels=1)


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
