"""The tables of an MP4 file, before FFmpeg reserves memory for what they claim.

FFmpeg makes an entry for every sample that a table of sizes claims, and for every sample once more for each edit; a few
bytes can claim billions.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from counterpoint.errors import DataError

_FOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex")
_MOST_EDITS = 1024
_MOST_BOXES = 2**16
_DEEPEST = 16


class _Box(NamedTuple):
    kind: bytes
    begin: int
    end: int


def check_boxes(file: BinaryIO) -> None:
    """Raise DataError if a table claims more samples than the file has bytes, or more edits than any editor makes."""
    whole = file.seek(0, 2)
    for number, box in enumerate(_boxes(file, 0, whole, 0)):
        if number > _MOST_BOXES:
            raise DataError(f"its header has more than {_MOST_BOXES} boxes")
        if box.kind in (b"stsz", b"stz2", b"elst", b"trun", b"stts", b"ctts", b"stsc"):
            file.seek(box.begin + 4)
            words = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
            each, count = words if box.kind == b"stsz" else (0, words[1] if box.kind == b"stz2" else words[0])
            if each * count > whole or (not each and count > whole):
                raise DataError(f"its header claims {count} samples, more than its {whole} bytes can hold")
            if box.kind == b"elst" and count > _MOST_EDITS:
                raise DataError(f"its header claims {count} edits, expected {_MOST_EDITS} at most")
        elif box.kind == b"cmov":
            raise DataError("its header is compressed, which no player has written for twenty years")


def _boxes(file: BinaryIO, at: int, end: int, depth: int) -> Iterator[_Box]:
    """The boxes from `at` to `end` and those inside of them, in order."""
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))
            begin += 8
        stop = end if size == 0 else min(at + size, end)
        if stop < begin:
            return
        yield _Box(kind, begin, stop)
        if kind in _FOLDERS and depth < _DEEPEST:
            yield from _boxes(file, begin, stop, depth + 1)
        at = stop
