"""Items as pictures for people: what a module sees is what was cut, without its normalisation."""

import io

import numpy as np
import pytest
from PIL import Image

from counterpoint.errors import DataError
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.clips.preview import waveform
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.images.patches import read_patches, read_pixels
from counterpoint.modalities.images.preview import joined_patches, with_grid
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.preview import LONGER_SIDE, beside, heat, preview_of
from tests.unit.items import MakeClip, MakePicture
from tests.unit.items import make_clip as make_clip
from tests.unit.items import make_picture as make_picture

INTAKE = ImageIntake("vision", ImageConfig(max_patches=64, mean=(0.1, 0.5, 0.7), std=(0.2, 0.3, 0.4)), patch=4, merge=2)
CLIPS = ClipIntake("audio", mels=8, window=5, stride=2, stack=2, positions=100)


def _array(values: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def test_every_modality_has_one() -> None:
    assert [kind for kind in ("image", "audio", "features", "depth") if preview_of(kind) is None] == []
    assert MODALITIES["image"].preview is not None


@pytest.mark.parametrize("frames", [1, 2])
def test_patches_are_joined_as_they_were_cut(make_picture: MakePicture, frames: int) -> None:
    intake = ImageIntake("vision", INTAKE.image, patch=4, merge=2, frames=frames)
    pictures = [make_picture(16, 24) for _ in range(frames)]
    joined = joined_patches(read_patches(pictures, 16, 24, intake), intake)
    assert joined.tolist() == [read_pixels(data, 16, 24, intake).tolist() for data in pictures]


def test_a_module_sees_the_pixels_of_the_file_between_lines(make_picture: MakePicture) -> None:
    data = make_picture(16, 24)
    preview = preview_of("image")
    assert preview is not None
    seen = preview.seen(ImageRows(INTAKE).read([data], (16, 24)), INTAKE)
    scale = LONGER_SIDE // 24
    assert seen.shape == (16 * scale, 24 * scale, 3)
    middles = seen[scale // 2 :: scale, scale // 2 :: scale]
    assert middles.tolist() == np.asarray(Image.open(io.BytesIO(data))).tolist()
    white = with_grid(np.ones((16, 24, 1), np.float32), 4)
    lines = (white != 255).any(axis=2)
    assert sorted({int(row) for row in np.flatnonzero(lines.all(axis=1))}) == [row * 4 * scale for row in range(4)]
    assert sorted({int(row) for row in np.flatnonzero(lines.all(axis=0))}) == [row * 4 * scale for row in range(6)]


def test_files_are_decoded_whole(make_picture: MakePicture, make_clip: MakeClip) -> None:
    picture, clip, rows = make_picture(40, 60), make_clip(900), _array(np.arange(12, dtype=np.float32).reshape(4, 3))
    depth = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)).save(depth, "PNG")
    files = {"image": (picture, (40, 60)), "audio": (clip, (900,)), "features": (rows, (4, 3)),
             "depth": (depth.getvalue(), (6, 8))}  # fmt: skip
    for kind, (data, extent) in files.items():
        preview = preview_of(kind)
        assert preview is not None
        drawn = preview.stored([data], extent)
        assert (drawn.dtype.name, drawn.ndim, drawn.shape[2]) == ("uint8", 3, 3)
        assert preview.oddity(extent) is None
        for bad, size in ((data[: len(data) * 2 // 3], extent), (data, tuple(2 * side for side in extent))):
            with pytest.raises(DataError):
                preview.stored([bad], size)
    assert preview_of("image").oddity((5, 101)) == "20 times as long as wide"  # type: ignore[union-attr]


def test_what_is_drawn_of_a_clip(make_clip: MakeClip) -> None:
    wave = np.concatenate([np.zeros(100), np.ones(100)]).astype(np.float32)
    drawn = waveform(wave, 50)
    assert (drawn[0] == 255).all(axis=1).tolist() == [True] * 25 + [False] * 25
    preview = preview_of("audio")
    assert preview is not None
    seen = preview.seen(ClipRows(CLIPS).read([make_clip(3200)], (3200,)), CLIPS)
    assert seen.shape[2] == 3


def test_pictures_stand_beside_each_other_and_numbers_become_greys() -> None:
    black, tall = np.zeros((2, 3, 3), np.uint8), np.zeros((4, 1, 3), np.uint8)
    both = beside([black, tall])
    assert both.shape == (4, 3 + 4 + 1, 3)
    assert (both[2:, :3] == 255).all()
    assert heat(np.array([[0.0, 5.0], [10.0, 10.0]], np.float32))[..., 0].tolist() == [[0, 128], [255, 255]]
    assert not heat(np.full((2, 2), 7.0, np.float32)).any()
