"""What a Python program gives as a file of a row: bytes, paths, pictures, arrays, sound; as encoded bytes."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from counterpoint.errors import DataError

_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
_PCM, _FLOATS = 1, 3
"""Numbers of the forms of samples in a WAV file."""


class GivenFile(str):
    """A name that a row's text forms can hold, which stands for an object of the program.

    Rows are read by the same code as records of files, where media are named.
    """

    value: object

    def __new__(cls, value: object) -> "GivenFile":
        """The name of an object; a path is its own, by which files of video are told."""
        name = super().__new__(cls, str(value) if isinstance(value, Path) else f"given {type(value).__name__}")
        name.value = value
        return name


def with_names(value: object) -> object:
    """A row in which every object that is not plain data has a name."""
    if isinstance(value, Mapping):
        if _is_file(value):
            return GivenFile(value)
        return {key: with_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_names(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float) else GivenFile(value)


def _is_file(values: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a file as Hugging Face's `datasets` gives it: `bytes` and `path`, or `array` and
    `sampling_rate`."""
    keys = values.keys()
    return ("bytes" in keys and keys <= {"bytes", "path"}) or {"array", "sampling_rate"} <= keys


def file_bytes(value: object) -> bytes:
    """The encoded bytes of an object; raises DataError for one that is no file."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Path):
        return _read(value)
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, Image.Image):
        return _encoded(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    raise DataError(
        f"a row holds a {type(value).__name__}, expected bytes, a path, a PIL image, a numpy array, or a file as "
        "datasets gives it ({'bytes': ..., 'path': ...}, {'array': ..., 'sampling_rate': ...}); convert it in the "
        "function of the row."
    )


def _of_mapping(values: Mapping[Any, Any]) -> bytes:
    if "array" in values:
        return _wave(np.asarray(values["array"]), int(values["sampling_rate"]))
    if values["bytes"] is not None:
        return file_bytes(values["bytes"])
    if isinstance(values.get("path"), str):
        return _read(Path(values["path"]))
    raise DataError("a row holds a file without bytes and without a path, expected one of both; correct the row.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"file {path} cannot be read ({error}); correct the row.") from error


def _encoded(image: Image.Image) -> bytes:
    """A picture without loss, upright; compressing it would take longer than reading it again."""
    upright = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    if upright.mode in _PNG_MODES:
        upright.save(buffer, "PNG", compress_level=0)
    else:
        upright.save(buffer, "TIFF")
    return buffer.getvalue()


def _of_array(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype == np.uint8 and (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        return _encoded(Image.fromarray(values))
    if values.ndim == 2 and values.dtype.kind == "f":
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        return buffer.getvalue()
    raise DataError(
        f"a row holds an array {values.dtype} {values.shape}, expected uint8 (height, width) or (height, width, 3 or "
        "4) of a picture, or floats (rows, width) of features or depths; sound needs its sampling_rate."
    )


def _wave(samples: np.ndarray[Any, Any], rate: int) -> bytes:
    """A WAV file of (samples,) or (channels, samples): 16-bit integers as they are, floats in [-1, 1] as floats."""
    columns = np.atleast_2d(samples).T
    form, kind = (_PCM, "<i2") if samples.dtype == np.int16 else (_FLOATS, "<f4")
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        raise DataError(f"a row holds sound of {samples.dtype}, expected int16 or floats in [-1, 1]; convert it.")
    if samples.ndim not in (1, 2):
        raise DataError(f"a row holds sound of shape {samples.shape}, expected (samples,) or (channels, samples).")
    data = np.ascontiguousarray(columns, dtype=kind)
    channels, width = data.shape[1], data.dtype.itemsize
    header = struct.pack("<HHIIHH", form, channels, rate, rate * channels * width, channels * width, 8 * width)
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", data.nbytes)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + data.nbytes) + b"WAVE" + chunks + data.tobytes()
