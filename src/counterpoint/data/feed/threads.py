"""Steps read by threads: one plans them in order, `workers` read and decode their items, others lay the rows out."""

from collections import deque
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, final

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import Loaded, Reader, StepInputs, Wanted
from counterpoint.data.feed.workers import Call, Workers
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import StalledError
from counterpoint.plan.batch import BatchPlan
from counterpoint.sources.source import Source
from counterpoint.sources.storage import PAUSES_SECONDS

ATTEMPTS = 1 + len(PAUSES_SECONDS)


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """How a rank reads ahead: `workers` threads decode the items of up to `steps_ahead` steps; an item that takes
    longer than `timeout_seconds` is read again (None: never). The threads are shared out among `processes`; with 0 they
    are those of the rank itself."""

    workers: int = 1
    steps_ahead: int = 2
    timeout_seconds: float | None = None
    processes: int = 0


class Feed(Protocol):
    """Reads steps in the order in which they are submitted."""

    def submit(self, step: int, exclusions: Collection[Exclusion]) -> Future[StepInputs]:
        """Begin to read a step without the documents that are excluded by then."""

    def close(self) -> None:
        """Stop reading."""


@final
class ThreadFeed:
    """Reads the steps of a corpus by threads of this process.

    A step waits for its own items only. Raises StalledError for an item that was not read in time three times.
    """

    def __init__(self, reader: Reader, corpus: Corpus, reading: Reading) -> None:
        self._reader, self._corpus, self._reading = reader, corpus, reading
        self._planner = Workers(1, "feed plan")
        self._items = Workers(reading.workers, "feed items")
        self._rows = Workers(reading.steps_ahead, "feed rows")

    def submit(self, step: int, exclusions: Collection[Exclusion]) -> Future[StepInputs]:
        """See Feed."""
        planned = self._planner.submit(self._plan, step, exclusions)
        return self._rows.submit(self._lay, planned).future

    def close(self) -> None:
        """See Feed."""
        for workers in (self._planner, self._items, self._rows):
            workers.close()

    def _plan(self, step: int, exclusions: Collection[Exclusion]) -> tuple[BatchPlan, "_Items"]:
        if exclusions != self._corpus.order.exclusions:
            order = replace(self._corpus.order, exclusions=exclusions)
            self._corpus = replace(self._corpus, order=order)
        batch = self._reader.plan.batch(step, self._corpus.packs(step))
        calls = deque((wanted, self._items.submit(self._reader.load, wanted)) for wanted in self._reader.wanted(batch))
        return batch, _Items(calls, self._items, self._reader, self._reading.timeout_seconds)

    def _lay(self, planned: Call[tuple[BatchPlan, "_Items"]]) -> StepInputs:
        batch, items = planned.future.result()
        return self._reader.read(batch, items.next)


@final
@dataclass(frozen=True, slots=True)
class _Items:
    """The items of one step while workers read them, in the order of `Reader.wanted`."""

    calls: deque[tuple[Wanted, Call[Loaded]]]
    workers: Workers
    reader: Reader
    timeout_seconds: float | None

    def next(self, wanted: Wanted) -> Loaded:
        """The next item, which is `wanted`."""
        expected, call = self.calls.popleft()
        assert expected == wanted, "items are laid out in the order in which they were asked for"
        for pause in (*PAUSES_SECONDS, None):
            try:
                return call.result(self.timeout_seconds)
            except TimeoutError:
                if call.future.done():  # The source itself raised it.
                    raise
            if pause is not None:
                call = self.workers.again(call, pause)
        raise stalled(self.reader.rank, self.reader.sources[wanted.source], wanted, self.timeout_seconds)


def stalled(rank: int, source: Source, wanted: Wanted, seconds: float | None) -> StalledError:
    """The error of an item that was not read in time."""
    return StalledError(
        f"{source.where(wanted.document)}, item {wanted.which}: rank {rank} tried to read it {ATTEMPTS} times, and "
        f"never got it within data.read_timeout_seconds, {seconds:g}; see whether the storage of the file answers, or "
        "raise the limit, then start the run again to resume."
    )
