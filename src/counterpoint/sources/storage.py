"""Errors of storage that may pass, as those of a network file system: what failed with one is tried again."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from counterpoint.errors import DataError

T = TypeVar("T")

PAUSES_SECONDS = (1.0, 2.0)
"""Before the second and the third attempt."""

_PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ENOTCONN})


def is_passing(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is one of storage that may pass."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return True
        cause = cause.__cause__
    return False


def persist(read: Callable[[], T]) -> T:
    """What `read` returns, after up to three attempts as long as it fails with an error of storage that may pass."""
    for seconds in PAUSES_SECONDS:
        try:
            return read()
        except (DataError, OSError) as error:
            if not is_passing(error):
                raise
        time.sleep(seconds)
    return read()
