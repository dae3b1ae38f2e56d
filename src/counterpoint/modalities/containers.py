"""Files of sound and video, opened with PyAV (the extra `media`): FFmpeg's demuxers and decoders over bytes alone.

The kind of a file is found from its first bytes, and no other demuxer is tried: playlists, which name other files, are
of no kind here, and no protocol is allowed, so that decoding opens nothing besides what was handed in. Whatever the
bytes of a file make FFmpeg raise becomes a DataError.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from counterpoint.errors import DataError, MissingPackageError
from counterpoint.modalities.boxes import check_boxes

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEO, CLIP = "video", "clip"
"""What files are called in messages."""

HEAD = 4096
"""Bytes by which the kind of a file is known."""

_TAG = 10
"""Bytes of the header of ID3 tags, which may stand before MP3, AAC and FLAC."""

_STARTS = {
    b"fLaC": "flac", b"OggS": "ogg", b"caff": "caf", b".snd": "au", b"RIFX": "wav", b"#!AMR": "amr", b"GIF8": "gif",
    b"\x1a\x45\xdf\xa3": "matroska", b"\x00\x00\x01\xba": "mpeg", b"FLV\x01": "flv", b"\x30\x26\xb2\x75": "asf",
}  # fmt: skip
_FORMS = {b"WAVE": "wav", b"AVI ": "avi", b"AIFF": "aiff", b"AIFC": "aiff"}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Types of the first box of an MP4 or QuickTime file."""

_PACKET, _SYNC = 188, 0x47
"""Bytes of a packet of an MPEG transport stream, and how each begins."""


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the kind of file that begins with `head`, None for an unknown one."""
    if head[:3] == b"ID3" and len(head) >= _TAG:
        size = sum((head[6 + number] & 0x7F) << 7 * (3 - number) for number in range(4))
        return container_of(head[_TAG + size :]) or "mp3"
    if head[:4] in (b"RIFF", b"RF64", b"FORM"):
        return _FORMS.get(head[8:12])
    if head[4:8] in _BOXES:
        return "mov"
    if len(head) > 2 * _PACKET and all(head[at] == _SYNC for at in (0, _PACKET, 2 * _PACKET)):
        return "mpegts"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "aac" if head[1] & 0xF6 == 0xF0 else "mp3"
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


@contextmanager
def opened(data: bytes | BinaryIO, what: str) -> Iterator["InputContainer"]:
    """A file of sound or video from its bytes; `what` is what it is called in messages.

    Raises DataError for bytes of no known kind, and whatever FFmpeg raises for damaged ones, also within the block; and
    MissingPackageError without the extra `media`.
    """
    file: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else data
    head = file.read(HEAD)
    kind = container_of(head)
    if kind is None:
        raise unknown(what)
    av = load_package("av", what)
    with refusing(what):
        if kind == "mov":
            check_boxes(file)
        file.seek(0)
        options = {"protocol_whitelist": "none", "format_whitelist": kind}
        with av.open(file, format=kind, options=options, metadata_errors="replace") as container:
            yield container


def unknown(what: str) -> DataError:
    """What is said of bytes of no kind."""
    known = "MP4, WebM, AVI" if what == VIDEO else "WAV, FLAC, MP3, OGG, AAC"
    return DataError(
        f"the {what}'s bytes are of no kind of file that is read, expected {known} or another of docs/data.md; convert "
        "or remove it."
    )


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever the bytes of a file make FFmpeg raise into a DataError."""
    try:
        yield
    except (DataError, MissingPackageError):
        raise
    except Exception as error:  # Decoders meet bytes that nobody wrote; what they raise is about these.
        said = error.strerror if isinstance(error, OSError) else str(error)
        reason = said or type(error).__name__
        raise DataError(f"the {what} cannot be decoded ({reason}); replace or remove it.") from error


def load_package(name: str, what: str) -> ModuleType:
    """A module of the extra `media`; raises MissingPackageError."""
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: a library that the package wraps is not there.
        raise MissingPackageError(
            f"the {what} is of a kind that the package {name} reads, which cannot be imported ({error}); install the "
            "extra: pip install 'counterpoint[media]'."
        ) from error
