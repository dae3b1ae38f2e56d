"""An unfinished folder belongs to one export at a time, by a lock that ends with the process that holds it."""

import fcntl
import os
import shutil
from pathlib import Path

from counterpoint.errors import InputError


def claim(partial: Path) -> int:
    """Make a folder in the place of one that no export holds any more; returns a descriptor that holds it until closed.

    Raises InputError if another export holds it, and OSError. File systems without locks let all in.
    """
    remove_abandoned(partial)
    partial.mkdir(parents=True)
    return _locked(partial)


def remove_abandoned(partial: Path) -> None:
    """Remove a folder that an export has left; raises InputError if one still holds it."""
    if partial.is_dir():
        left = _locked(partial)
        try:
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(left)


def _locked(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"{folder}: another export writes into it, expected one at a time; wait for it, or choose another OUT"
        ) from None
    except OSError:
        pass
    return descriptor
