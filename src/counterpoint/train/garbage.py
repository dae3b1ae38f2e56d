"""Python's garbage collector beside a training: what lives as long as the run is not looked through again and again.

A full collection takes tens of milliseconds once compiled functions exist, in which a rank launches nothing and all
others wait for it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final


@final
class Garbage:
    """Sets aside, once, the objects that exist by then."""

    def set_aside(self) -> None:
        """Collect once more, and leave what remains out of further collections."""
        gc.collect()
        gc.freeze()


@contextmanager
def spared() -> Iterator[Garbage]:
    """A time in which objects may be set aside; after it they are collected as others are."""
    try:
        yield Garbage()
    finally:
        gc.unfreeze()
