"""A wish to stop, by which a run ends after the current step in place of at once: a signal's, or a callback's."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist


class StopSignals:
    """Hears SIGINT and SIGTERM, of which `heard` is the one that came last, and callbacks."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self._is_asked = False

    def ask(self) -> None:
        """Wish to stop without a signal."""
        self._is_asked = True

    @property
    def is_wanted(self) -> bool:
        """Whether this rank is to stop."""
        return self._is_asked or self.heard is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as a wish to stop after the current step.

        After an error they stay without effect: whoever ends this rank because of another still hears its reason.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            self.heard = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    def is_wanted_anywhere(self, group: dist.ProcessGroup | None) -> bool:
        """Whether any rank is to stop; all ranks of the group ask together, so that none leaves alone."""
        return _anywhere(self.is_wanted, group)

    def heard_anywhere(self, group: dist.ProcessGroup | None) -> bool:
        """Whether any rank heard a signal; all ranks of the group ask together."""
        return _anywhere(self.heard is not None, group)


def _anywhere(holds: bool, group: dist.ProcessGroup | None) -> bool:
    found = torch.tensor([holds], dtype=torch.int64)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
    return bool(found)
