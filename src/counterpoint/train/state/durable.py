"""Files that are on the disk when these return, whatever happens to the machine afterwards."""

import os
from pathlib import Path


def write_synced(file: Path, data: bytes) -> None:
    """Write a whole file and wait until its content is on the disk; raises OSError."""
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Wait until what a file holds, or the names in a folder, are on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
