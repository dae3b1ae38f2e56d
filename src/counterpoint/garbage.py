"""Python's garbage collector beside a run: what lives as long as the run is not looked through again and again.

In a training a full collection takes tens of milliseconds once compiled functions exist, in which a rank launches
nothing and all others wait for it. Plans are made of many small values that stay.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
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
    """A time in which collections are rare, for work that makes many small values and keeps them, such as a proof.

    Several threads may have theirs at once. Who switched collections off, or made them rarer, keeps that.
    """
    _RARITY.begin()
    try:
        yield
    finally:
        _RARITY.end()


_MANY_OBJECTS = 100_000
"""Objects that are made, less those freed, before the youngest are looked through; Python's default is 700 to 2,000."""


@final
class _Rarity:
    """The thresholds of before the first of those that are in such a time."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, gc.get_threshold()

    def begin(self) -> None:
        """One more is in it."""
        with self._lock:
            if not self._inside:
                self._before = gc.get_threshold()
                if 0 < self._before[0] < _MANY_OBJECTS:
                    gc.set_threshold(_MANY_OBJECTS, *self._before[1:])
            self._inside += 1

    def end(self) -> None:
        """One less is; after the last, all is as before."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.set_threshold(*self._before)


_RARITY = _Rarity()


def leave_at_exit() -> None:
    """What exists when the process ends is not looked through once more, for commands that only answer."""
    atexit.register(gc.freeze)
