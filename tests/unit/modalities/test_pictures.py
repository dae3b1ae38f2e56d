"""Pictures of every mode, format and state become the right pixels or a DataError, and nothing else."""

import io
import struct
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoint.errors import DataError
from counterpoint.modalities.images.pictures import flatten, image_size, read_scaled
from counterpoint.modalities.images.spec import Resampling

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def _encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, file_format, **options)
    return data.getvalue()


def _as_it_is(data: bytes, channels: int = 3) -> np.ndarray:
    size = image_size(data)
    return read_scaled(data, size, size, "bicubic", channels=channels)


def _exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of entries (tag, type, count, four bytes of a value or of where it stands)."""
    rows = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + rows + struct.pack(">I", 0) + b"\xff" * 16


UPRIGHT = (0x0112, 3, 1, struct.pack(">HH", 6, 0))
ODD = {
    "software as a number": (305, 12, 1, struct.pack(">I", 38)),
    "a width as text": (0x0100, 2, 10, struct.pack(">I", 38)),
    "a resolution as text": (282, 2, 1, b"J\0\0\0"),
    "a signed rational": (37380, 10, 1, struct.pack(">I", 38)),
    "a section that is not there": (34665, 4, 1, struct.pack(">I", 2**31)),
    "a type that is none": (305, 99, 1, b"\0\0\0\0"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_odd_metadata_turn_a_picture_and_do_nothing_else(entry: tuple[int, int, int, bytes], file_format: str) -> None:
    image = Image.fromarray(COLOURS[:8])
    plain = _as_it_is(_encoded(image, file_format))
    turned = _as_it_is(_encoded(image, file_format, exif=_exif(entry, UPRIGHT)))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_are_those_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(COLOURS[:8])
    data = _encoded(image, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(_transposed(opened))
    np.testing.assert_array_equal(_as_it_is(data), expected)
    # The same metadata behind the pixels, where other programs write them.
    start, stop = data.index(b"eXIf") - 4, data.index(b"IDAT") - 4
    end = data.index(b"IEND") - 4
    late = data[:start] + data[stop:end] + data[start:stop] + data[end:]
    np.testing.assert_array_equal(_as_it_is(late), expected)


def _transposed(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


@settings(max_examples=60)
@given(metadata=st.binary(max_size=80))
@pytest.mark.filterwarnings("ignore")
def test_any_metadata_leave_the_pixels(metadata: bytes) -> None:
    image = Image.fromarray(COLOURS)
    for file_format in ("JPEG", "PNG"):
        data = _encoded(image, file_format, exif=b"Exif\0\0" + metadata)
        plain = _as_it_is(_encoded(image, file_format))
        assert _as_it_is(data).shape == plain.shape
        assert np.sort(_as_it_is(data), axis=None).tolist() == np.sort(plain, axis=None).tolist()


@settings(max_examples=150)
@given(file_format=st.sampled_from(FORMATS), at=st.floats(0, 1), change=st.integers(1, 255), is_cut=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_a_picture_or_a_data_error(file_format: str, at: float, change: int, is_cut: bool) -> None:
    data = bytearray(_encoded(Image.fromarray(COLOURS), file_format))
    place = min(int(at * len(data)), len(data) - 1)
    if is_cut:
        del data[place:]
    else:
        data[place] ^= change
    try:
        size = image_size(bytes(data), most_pixels=2**16)
        pixels = read_scaled(bytes(data), size, (4, 4), "bilinear", most_pixels=2**16)
    except DataError:
        return
    assert pixels.shape == (4, 4, 3)


GREY_MODES: dict[str, Callable[[], Image.Image]] = {
    "L": lambda: Image.fromarray(RAMP),
    "LA": lambda: Image.fromarray(RAMP).convert("LA"),
    "La": lambda: Image.fromarray(RAMP).convert("LA").convert("La"),
    "P": lambda: Image.fromarray(RAMP).convert("P"),
    "PA": lambda: Image.fromarray(RAMP).convert("PA"),
    "CMYK": lambda: Image.fromarray(RAMP).convert("RGB").convert("CMYK"),
    "YCbCr": lambda: Image.fromarray(RAMP).convert("YCbCr"),
    "HSV": lambda: Image.fromarray(RAMP).convert("RGB").convert("HSV"),
    "LAB": lambda: Image.fromarray(RAMP).convert("RGB").convert("LAB"),
    "RGB": lambda: Image.fromarray(RAMP).convert("RGB"),
    "RGBA": lambda: Image.fromarray(RAMP).convert("RGBA"),
    "RGBa": lambda: Image.fromarray(RAMP).convert("RGBA").convert("RGBa"),
    "RGBX": lambda: Image.fromarray(RAMP).convert("RGBX"),
    "1": lambda: Image.fromarray(RAMP > 127),
    "I": lambda: Image.fromarray(RAMP.astype(np.int32)),
    "F": lambda: Image.fromarray(RAMP.astype(np.float32) / 255),
    "I;16": lambda: Image.fromarray(RAMP.astype(np.uint16) * 257),
    "I;16B": lambda: Image.frombytes("I;16B", (16, 16), (RAMP.astype(">u2") * 257).tobytes()),
    "I;16L": lambda: Image.frombytes("I;16L", (16, 16), (RAMP.astype("<u2") * 257).tobytes()),
    "I;16N": lambda: Image.frombytes("I;16N", (16, 16), (RAMP.astype("=u2") * 257).tobytes()),
}
"""The ramp from black to white in every mode."""

_LOSSY = {"LAB": 3, "YCbCr": 1}


def test_the_ramp_is_the_ramp_in_every_mode() -> None:
    assert set(GREY_MODES) == set(Image.MODES)
    for mode, make in GREY_MODES.items():
        image = make()
        assert image.mode == mode
        expected = (RAMP > 127) * 255 if mode == "1" else RAMP
        found = np.asarray(flatten(image)).astype(int)
        assert np.abs(found - expected[..., None]).max() <= _LOSSY.get(mode, 0), mode
        assert np.abs(np.asarray(flatten(make(), channels=1)).astype(int) - expected).max() <= _LOSSY.get(mode, 0), mode


COLOUR_MODES: dict[str, tuple[bytes, tuple[int, int, int]]] = {
    # White below half of the alpha: x * 128 / 255 + 255 * 127 / 255.
    "LA": (bytes([77, 128]), (166, 166, 166)),
    "La": (bytes([40, 128]), (167, 167, 167)),
    "RGB": (bytes([200, 100, 10]), (200, 100, 10)),
    "RGBA": (bytes([200, 100, 0, 128]), (227, 177, 127)),
    "RGBa": (bytes([100, 50, 0, 128]), (227, 177, 127)),
    "RGBX": (bytes([200, 100, 10, 3]), (200, 100, 10)),
    "CMYK": (bytes([255, 0, 100, 0]), (0, 255, 155)),
    "YCbCr": (bytes([76, 85, 255]), (254, 0, 0)),
    "LAB": (bytes([138, 81, 70]), (255, 0, 0)),
    "HSV": (bytes([0, 255, 255]), (255, 0, 0)),
}
"""The numbers of a pixel in modes of several, and its red, green and blue by hand."""


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_colours_are_right_in_every_mode(mode: str) -> None:
    numbers, expected = COLOUR_MODES[mode]
    found = np.asarray(flatten(Image.frombytes(mode, (1, 1), numbers)))[0, 0].astype(int)
    assert np.abs(found - expected).max() <= {"LAB": 5}.get(mode, 1)


def test_palettes_have_colours_and_transparency() -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 200, 100, 10])
    assert np.asarray(flatten(image))[0, 0].tolist() == [200, 100, 10]
    shown = _as_it_is(_encoded(image, transparency=1))
    assert shown[0, 0].tolist() == [255, 255, 255]
    both = Image.frombytes("PA", (1, 1), bytes([1, 128]))
    both.putpalette([0, 0, 0, 200, 100, 10])
    assert np.abs(np.asarray(flatten(both))[0, 0].astype(int) - [227, 177, 132]).max() <= 1


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16), RAMP),
        (RAMP.astype(np.float32), RAMP),
        (RAMP.astype(np.float32) * 257, RAMP),
        (RAMP.astype(np.int32), RAMP),
        (RAMP.astype(np.int32) * 257, RAMP),
        (RAMP.astype(np.uint16), np.round(RAMP / 257)),
        (np.zeros((16, 16), dtype=np.float32), np.zeros((16, 16))),
    ],
)
def test_numbers_in_a_tiff_are_scaled_to_white(numbers: np.ndarray, expected: np.ndarray) -> None:
    found = _as_it_is(_encoded(Image.fromarray(numbers), "TIFF"), channels=1)
    np.testing.assert_array_equal(found[..., 0], expected)


@pytest.mark.parametrize("odd", [-1.0, np.nan, np.inf, 65536.0])
def test_numbers_whose_white_is_unknown_are_refused(odd: float) -> None:
    numbers = np.full((4, 4), odd, dtype=np.float32)
    with pytest.raises(DataError, match="expected none below 0, and 65535 at most as white"):
        _as_it_is(_encoded(Image.fromarray(numbers), "TIFF"))


def test_sixteen_bits_of_a_dark_picture_stay_dark() -> None:
    for file_format in ("PNG", "PPM"):
        data = _encoded(Image.fromarray(RAMP.astype(np.uint16)), file_format)
        np.testing.assert_array_equal(_as_it_is(data, channels=1)[..., 0], np.round(RAMP / 257))


def test_a_huge_picture_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _encoded(Image.new("1", (12000, 8000)), "PNG")
    assert len(data) < 50_000

    def decode(*_arguments: object) -> None:
        raise AssertionError("the header says enough")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(Image.Image, "load", decode)
    for read in (image_size, lambda bytes_: read_scaled(bytes_, (8000, 12000), (4, 4), "bicubic")):
        with pytest.raises(DataError, match=r"the image has 8000x12000 pixels, more than the 67108864 that are"):
            read(data)


def _iptc(inner: bytes) -> bytes:
    """A picture of 8 x 8 in a container of news agencies, which may hold one of any format."""
    fields = {(3, 60): b"\1\0", (3, 20): struct.pack(">H", 8), (3, 30): struct.pack(">H", 8), (3, 120): b"\5"}
    fields |= {(3, 65): b"\0", (8, 10): inner}
    return b"".join(struct.pack(">BBBH", 0x1C, *kind, len(value)) + value for kind, value in fields.items())


@pytest.mark.parametrize("wrap", [bytes, _iptc])
def test_no_picture_is_given_to_a_program(monkeypatch: pytest.MonkeyPatch, wrap: Callable[[bytes], bytes]) -> None:
    def run(command: list[str], **_options: object) -> None:
        raise AssertionError(f"a picture makes {command} run")

    monkeypatch.setattr(subprocess, "check_call", run)
    data = wrap(_encoded(Image.new("RGB", (8, 8)), "EPS"))
    for read in (image_size, lambda bytes_: read_scaled(bytes_, (8, 8), (4, 4), "bicubic")):
        with pytest.raises(DataError, match=r"of the format (EPS|IPTC), expected .* save it as PNG or JPEG"):
            read(data)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


KERNELS: dict[Resampling, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (1, lambda x: np.maximum(0, 1 - np.abs(x))),
    "bicubic": (2, _cubic),
    "lanczos": (3, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)),
}
"""Filters by name: how far each reaches, and its weights (Keys, 1981; Duchon, 1979)."""


def _weights(before: int, after: int, name: Resampling) -> np.ndarray:
    """How much each of `before` pixels counts in each of `after`: the filter is as wide as what a pixel covers."""
    _reach, kernel = KERNELS[name]
    scale = max(before / after, 1.0)
    middles = (np.arange(after) + 0.5) * before / after
    weights: np.ndarray = kernel((np.arange(before) + 0.5 - middles[:, None]) / scale)
    out: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return out


ROUNDED = 1.5


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("target", [(8, 8), (5, 11), (40, 56), (16, 3)])
def test_scaled_pixels_are_those_of_the_filter(name: Resampling, target: tuple[int, int]) -> None:
    """Every pixel that is covered counts, up or down; a filter that only looks at neighbours is far off."""
    # Far enough from black and white that no filter reaches beyond them, where values are cut off.
    picture = np.random.default_rng(3).integers(90, 167, (32, 40, 3), dtype=np.uint8)
    exact = np.einsum("ah,hwc,bw->abc", _weights(32, target[0], name), picture, _weights(40, target[1], name))
    found = read_scaled(_encoded(Image.fromarray(picture)), (32, 40), target, name)
    # Both directions are rounded to whole levels.
    assert np.abs(found - exact).max() <= ROUNDED
    nearest = read_scaled(_encoded(Image.fromarray(picture)), (32, 40), target, "nearest")
    assert np.abs(nearest - exact).max() > 10 * ROUNDED


def test_stripes_become_their_mean() -> None:
    """What lies between the pixels of a smaller picture is seen: one in four columns is white."""
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::4] = 255
    data = _encoded(Image.fromarray(stripes))
    for name in ("box", "bilinear", "hamming", "bicubic", "lanczos"):
        found = read_scaled(data, (64, 64), (8, 8), name)[2:6, 2:6]
        assert np.abs(found.astype(float) - 255 / 4).max() <= 12, name


@pytest.mark.parametrize("size", [(240, 320), (241, 323)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_reduced_jpeg_is_about_the_same(size: tuple[int, int], orientation: int) -> None:
    y, x = np.indices(size) / size[0]
    smooth = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * x * y), np.sin(9 * y)], axis=-1) * 100 + 128
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(Image.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95, exif=exif)
    shown = size[::-1] if orientation == 6 else size
    target = (30, 20) if orientation == 6 else (20, 30)
    whole = read_scaled(data, shown, target, "bicubic").astype(int)
    reduced = read_scaled(data, shown, target, "bicubic", reduce=3).astype(int)
    assert 0 < np.abs(whole - reduced).max() <= 6
    assert np.abs(whole - reduced).mean() <= 0.5
    np.testing.assert_array_equal(reduced, read_scaled(data, shown, target, "bicubic", reduce=3))
    np.testing.assert_array_equal(whole, read_scaled(data, shown, target, "bicubic", reduce=100))
