"""Processes that share the shards of a preparation: each is asked for one shard after the other.

They are spawned, and end with the process that asked: their pipe then ends. No queue or lock is shared, so one that is
killed harms no other.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from counterpoint.data.prepare.job import Job, Preparer, Tick, Watch
from counterpoint.data.prepare.shards import Shard
from counterpoint.errors import CounterpointError, RunError

_JOIN_SECONDS = 5
Numbered = tuple[int, Shard]


def prepare_shards(job: Job, shards: Sequence[Numbered], workers: int, watch: Watch) -> None:
    """Write the parts of shards by their numbers; raises the error of the first shard that has one.

    With one worker this process does the work. Raises RunError naming the shard if a process dies.
    """
    if workers == 1 or len(shards) <= 1:
        preparer = Preparer(job)
        for number, shard in shards:
            preparer.run(number, shard, watch)
        return
    with _spawned(job, min(workers, len(shards))) as crew:
        _share(crew, deque(shards), watch)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    at: Numbered | None = field(default=None)

    def ask(self, shard: Numbered) -> None:
        self.at = shard
        try:
            self.pipe.send(shard)
        except OSError:
            raise self.died() from None

    def died(self) -> RunError:
        """The error for a process that is gone."""
        self.process.join(_JOIN_SECONDS)
        code = self.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return RunError(
            f"prepare: the process that read {describe(self.at)} {how}; if memory ran out, take fewer --workers. "
            "Finished parts are kept: run the command again to go on."
        )


def describe(shard: Numbered | None) -> str:
    """A shard in words."""
    return "nothing" if shard is None else f"{shard[1].file} from row {shard[1].first} on"


def _share(crew: Sequence[_Worker], waiting: deque[Numbered], watch: Watch) -> None:
    """Hand out shards in their order; after an error only those before its shard are finished, so that the first error
    is the same whatever the number of processes."""
    failed: tuple[int, CounterpointError] | None = None
    for worker in crew:
        worker.ask(waiting.popleft())
    while any(worker.at is not None and (failed is None or worker.at[0] < failed[0]) for worker in crew):
        busy = {worker.pipe: worker for worker in crew if worker.at is not None}
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection), "only pipes are waited for"
            worker = busy[pipe]
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                raise worker.died() from None
            if isinstance(said, Tick):
                watch(said)
                if not said.shards:
                    continue
            assert worker.at is not None, "it is busy"
            if isinstance(said, CounterpointError) and (failed is None or worker.at[0] < failed[0]):
                failed = (worker.at[0], said)
            worker.at = None
            if failed is None and waiting:
                worker.ask(waiting.popleft())
    if failed is not None:
        raise failed[1]


@contextmanager
def _spawned(job: Job, count: int) -> Iterator[list[_Worker]]:
    context = multiprocessing.get_context("spawn")
    crew: list[_Worker] = []
    try:
        for _ in range(count):
            own, other = context.Pipe()
            process = context.Process(target=_work, args=(job, other), daemon=True)
            process.start()
            other.close()
            crew.append(_Worker(process, own))
        yield crew
    finally:
        for worker in crew:
            worker.pipe.close()
            worker.process.terminate()
            worker.process.join(_JOIN_SECONDS)


def _work(job: Job, pipe: Connection) -> None:
    """A process: prepares the shards that it is sent until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preparer = Preparer(job)
    try:
        while True:
            number, shard = pipe.recv()
            try:
                preparer.run(number, shard, pipe.send)
            except CounterpointError as error:
                pipe.send(error)
    except (EOFError, BrokenPipeError):
        return
