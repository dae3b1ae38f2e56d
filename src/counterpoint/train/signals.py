"""Requests to stop after the current step, from signals and callbacks."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from counterpoint.execute.tree import Tree


class StopSignals:
    """Collects stop requests; `heard` is the last SIGINT or SIGTERM, None without one."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self._is_asked = False

    def ask(self) -> None:
        """Request a stop without a signal."""
        self._is_asked = True

    @property
    def is_wanted(self) -> bool:
        """Whether a stop was requested on this rank."""
        return self._is_asked or self.heard is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals as requests to stop after the current step.

        After an error they stay ignored, so that a launcher that terminates this rank still gets the error.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            self.heard = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    def is_wanted_anywhere(self, tree: Tree | None) -> bool:
        """Whether a stop was requested on any rank; a collective, so that all ranks stop together."""
        return _anywhere(self.is_wanted, tree)

    def heard_anywhere(self, tree: Tree | None) -> bool:
        """Whether any rank received a signal; a collective of the tree."""
        return _anywhere(self.heard is not None, tree)


def _anywhere(holds: bool, tree: Tree | None) -> bool:
    assert tree is not None, "only active ranks stop together"
    (found,) = tree.maximum(holds)
    return bool(found)
