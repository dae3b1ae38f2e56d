"""A wish to stop, by which a run ends after the current step in place of at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist


class StopSignals:
    """Hears SIGINT and SIGTERM; `heard` is the one that came last."""

    def __init__(self) -> None:
        self.heard: int | None = None

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

    def heard_anywhere(self, group: dist.ProcessGroup | None) -> bool:
        """Whether any rank was asked to stop; all ranks of the group ask together, so that none leaves alone."""
        wish = torch.tensor([self.heard is not None], dtype=torch.int64)
        dist.all_reduce(wish, dist.ReduceOp.MAX, group=group)
        return bool(wish)
