"""Where steps are read: by threads of the rank, or by processes beside it, each of which reads whole steps."""

from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import replace
from typing import final

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.process import ProcessFeed
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.data.feed.threads import Feed, Reading, ThreadFeed
from counterpoint.data.order.order import Exclusion


def open_feed(reader: Reader, corpus: Corpus, reading: Reading) -> Feed:
    """What reads the steps of a corpus for the rank of a reader."""
    if not reading.processes:
        return ThreadFeed(reader, corpus, reading)
    # More processes than steps that are read at a time would have nothing to do.
    processes = min(reading.processes, reading.workers, reading.steps_ahead)
    shares = [
        replace(
            reading,
            workers=(number + 1) * reading.workers // processes - number * reading.workers // processes,
            steps_ahead=-(-reading.steps_ahead // processes),
        )
        for number in range(processes)
    ]
    return _InTurn([ProcessFeed(reader, corpus, share) for share in shares])


@final
class _InTurn:
    """Feeds that take turns."""

    def __init__(self, feeds: list[ProcessFeed]) -> None:
        self._feeds = feeds

    def submit(self, step: int, exclusions: Collection[Exclusion]) -> Future[StepInputs]:
        """See Feed."""
        return self._feeds[step % len(self._feeds)].submit(step, exclusions)

    def close(self) -> None:
        """See Feed."""
        for feed in self._feeds:
            feed.close()
