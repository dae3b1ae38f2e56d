"""Durable writes: the data is on the disk when these functions return."""

import os
from pathlib import Path


def write_synced(file: Path, data: bytes) -> None:
    """Write a whole file and wait until its content is on the disk; raises OSError."""
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
