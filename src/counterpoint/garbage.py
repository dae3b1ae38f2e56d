"""Python's garbage collector beside a run: what lives as long as the run is not looked through again and again.

In a training a full collection takes tens of milliseconds once compiled functions exist, in which a rank launches
nothing and all others wait for it. Plans are made of many small values that stay.
"""

import atexit
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


@contextmanager
def rare() -> Iterator[None]:
    """A time in which collections are rare, for work that makes many small values and keeps them, such as a proof."""
    before = gc.get_threshold()
    gc.set_threshold(_MANY_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


_MANY_OBJECTS = 100_000
"""Objects that are made, less those freed, before the youngest are looked through; Python's default is 700 to 2,000."""


def leave_at_exit() -> None:
    """What exists when the process ends is not looked through once more, for commands that only answer."""
    atexit.register(gc.freeze)
