"""Steps read by a process of their own, so that planning, decoding and laying out never hold up the training's thread.

The process ends with the one that started it, and uses no GPU.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import NamedTuple, final

import torch

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.data.feed.shipping import Cargo, load_cargo, unload_cargo
from counterpoint.data.feed.threads import Reading, ThreadFeed
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import CounterpointError, DataError, RunError


class _Answer(NamedTuple):
    """What the process says of a step: the lengths of the parts of its inputs, whose memory follows, or why there are
    none, and where that was raised."""

    step: int
    lengths: tuple[int, ...] = ()
    error: CounterpointError | None = None
    raised: str = ""


class _RaisedThereError(Exception):
    """Where the process raised an error."""


@final
class ProcessFeed:
    """Reads the steps of a corpus in a process of their own, by its threads; see ThreadFeed.

    What is raised there is raised here: errors of counterpoint as they are, all others as a RunError with their
    traceback. Raises DataError if a source cannot be pickled.
    """

    def __init__(self, reader: Reader, corpus: Corpus, reading: Reading) -> None:
        self._rank, self._is_pinned = reader.rank, reader.is_pinned
        self._waiting: dict[int, Future[StepInputs]] = {}
        self._lock = threading.Lock()
        self._ended: RunError | None = None
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Plans remember schedules that no reader needs.
        reader = replace(reader, plan=replace(reader.plan), is_pinned=False)
        work = _pickled(reader, replace(corpus, evaluation=()), reading)
        self._process = context.Process(target=_serve, args=(theirs, work), name="feed", daemon=True)
        self._process.start()
        theirs.close()
        self._receiver = threading.Thread(target=self._receive, name="feed answers", daemon=True)
        self._receiver.start()

    def submit(self, step: int, exclusions: Collection[Exclusion]) -> Future[StepInputs]:
        """See Feed."""
        future: Future[StepInputs] = Future()
        with self._lock:
            if self._ended is not None:
                future.set_exception(self._ended)
                return future
            self._waiting[step] = future
        with suppress(OSError):  # Where the process has ended, `_receive` says so.
            self._connection.send((step, tuple(exclusions)))
        return future

    def close(self) -> None:
        """See Feed; nothing that it has read is kept."""
        self._process.kill()
        self._receiver.join()

    def _receive(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._take(pickle.loads(self._connection.recv_bytes()))
        self._process.join()
        with self._lock:
            self._ended = RunError(
                f"rank {self._rank}: the process that reads data ended with code {self._process.exitcode}, expected it "
                "to live as long as the rank; -9 is often for want of memory: lower data.workers or "
                "data.prefetch_steps, or set data.processes=0."
            )
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(self._ended)

    def _take(self, answer: _Answer) -> None:
        with self._lock:
            future = self._waiting.pop(answer.step)
        if answer.error is not None:
            answer.error.__cause__ = _RaisedThereError(answer.raised)
            future.set_exception(answer.error)
            return
        inputs = unload_cargo(Cargo(recv_handle(self._connection), answer.lengths))
        try:
            future.set_result(inputs.pinned() if self._is_pinned else inputs)
        except Exception as error:  # Pinned memory may run out; whoever waits for the step learns it.
            future.set_exception(error)


def _pickled(reader: Reader, corpus: Corpus, reading: Reading) -> bytes:
    try:
        return pickle.dumps((reader, corpus, reading))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise DataError(
            f"data: a source cannot be sent to the process that reads ({error}), expected one that can be pickled; "
            "define its class at the top of an importable file, or set data.processes=0."
        ) from error


def _serve(connection: Connection, work: bytes) -> None:
    """The process: read what is asked for until the rank is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A signal to the whole group is the rank's to handle, which still reads steps while it stops.
        signal.signal(number, signal.SIG_IGN)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    lock = threading.Lock()
    try:
        submit = ThreadFeed(*pickle.loads(work)).submit
    except BaseException as error:
        submit = partial(_failed, error)
    with suppress(EOFError, OSError):
        while True:
            step, exclusions = connection.recv()
            submit(step, exclusions).add_done_callback(partial(_answer, connection, lock, step))
    os._exit(0)  # A thread may hang in storage.


def _failed(error: BaseException, _step: int, _exclusions: Collection[Exclusion]) -> Future[StepInputs]:
    future: Future[StepInputs] = Future()
    future.set_exception(error)
    return future


def _answer(connection: Connection, lock: threading.Lock, step: int, future: Future[StepInputs]) -> None:
    """Send the inputs of a step, or why there are none."""
    cargo = None
    try:
        cargo = load_cargo(future.result())
        answer = _Answer(step, cargo.lengths)
    except BaseException as error:
        answer = _Answer(step, error=_typed(step, error), raised="".join(traceback.format_exception(error)))
    with lock, suppress(OSError):
        connection.send_bytes(pickle.dumps(answer))
        if cargo is not None:
            send_handle(connection, cargo.handle, os.getppid())
    if cargo is not None:
        os.close(cargo.handle)


def _typed(step: int, error: BaseException) -> CounterpointError:
    if isinstance(error, CounterpointError):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    trace = "".join(traceback.format_exception(error))
    return RunError(f"step {step}: the process that reads data failed with {type(error).__name__}: {error}\n{trace}")
