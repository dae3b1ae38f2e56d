"""A part of a file as a file of its own."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, final

from counterpoint.errors import DataError

_BUFFER_BYTES = 2**16


def open_part(file: Path, offset: int, length: int, count: Callable[[int], None] | None = None) -> BinaryIO:
    """`length` bytes of a file from `offset` on, read where they lie; `count` is told how many are read each time.

    Raises DataError if the file cannot be opened.
    """
    return io.BufferedReader(_FilePart(file, offset, length, count), _BUFFER_BYTES)


@final
class _FilePart(io.RawIOBase):
    def __init__(self, file: Path, offset: int, length: int, count: Callable[[int], None] | None) -> None:
        super().__init__()
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"file {file} cannot be opened ({error.strerror}); restore it.") from error
        self._offset, self._length, self._count = offset, length, count
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is left, at most a buffer."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._length - self._at))
        data = os.pread(self._descriptor, wanted, self._offset + self._at) if wanted else b""
        view[: len(data)] = data
        self._at += len(data)
        if self._count is not None:
            self._count(len(data))
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the part."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = start + offset
        return self._at

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
