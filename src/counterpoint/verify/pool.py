"""A pool of ranks that runs many cases: torch is imported and the world joined once."""

import faulthandler
import multiprocessing
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from counterpoint.errors import CounterpointError, RunError
from counterpoint.program import IMPORTED_AGAIN, check_program, unguarded

_PRELOAD = ["counterpoint.verify.case"]
_START_SECONDS, _END_SECONDS = 120.0, 5.0


@dataclass(frozen=True, slots=True)
class _Reply:
    value: Any
    error: str | None
    exit_code: int


class PoolError(RunError):
    """A task failed on a rank of the pool, or did not end in time."""


class Pool:
    """`size` ranks joined in one world. `run` calls a function on all of them and returns the result of the one
    rank that has one.

    After a failure or a time-out the ranks are ended and the next `run` starts new ones.
    """

    def __init__(self, size: int, device_type: str = "cpu", timeout_seconds: float = 120.0) -> None:
        self.size = size
        self._device_type, self._timeout = device_type, timeout_seconds
        self._members: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(self, task: Callable[..., Any], *arguments: object, timeout_seconds: float | None = None) -> Any:
        """Call `task(member, *arguments)` on every rank; raises PoolError with the first failing rank's message."""
        if not self._members:
            self._start()
        for _process, pipe in self._members:
            pipe.send((task, arguments))
        return self._gather(self._timeout if timeout_seconds is None else timeout_seconds)

    def close(self) -> None:
        """End all ranks."""
        for _process, pipe in self._members:
            pipe.close()
        for process, _pipe in self._members:
            process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._members = []

    def _start(self) -> None:
        check_program()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        port = _free_port()
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_member_main, args=(rank, self.size, port, self._device_type, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._members.append((process, ours))
        self._gather(_START_SECONDS)

    def _gather(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        waiting = list(range(len(self._members)))
        first: Any = None
        while waiting:
            pipes = {rank: self._members[rank][1] for rank in waiting}
            ready = wait(list(pipes.values()), timeout=max(deadline - time.monotonic(), 0.0))
            if not ready:
                self._give_up(f"ranks {waiting} did not answer in {seconds:g} seconds", 4)
            for rank in [rank for rank, pipe in pipes.items() if pipe in ready]:
                waiting.remove(rank)
                reply = self._receive(pipes[rank], rank)
                if reply.error is not None:
                    self._give_up(f"rank {rank}: {reply.error}", reply.exit_code)
                if reply.value is not None:
                    first = reply.value
        return first

    def _receive(self, pipe: Connection, rank: int) -> _Reply:
        try:
            reply: _Reply = pipe.recv()
        except (EOFError, ConnectionResetError):
            process, _pipe = self._members[rank]
            process.join(_END_SECONDS)
            if process.exitcode == IMPORTED_AGAIN:
                raise unguarded() from None
            return _Reply(None, f"ended without an answer (rank {rank} was killed)", 1)
        return reply

    def _give_up(self, message: str, exit_code: int) -> None:
        stacks = self._stacks() if exit_code == 4 else ""
        for process, _pipe in self._members:
            process.kill()
        self.close()
        error = PoolError(message + stacks)
        error.exit_code = exit_code
        raise error

    def _stacks(self) -> str:
        """The stacks of every rank, requested by signal."""
        import signal

        for process, _pipe in self._members:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGUSR1)
        time.sleep(1.0)
        texts = [(stack_file(process.pid or 0)) for process, _pipe in self._members]
        return "".join(f"\n--- rank {r}\n{f.read_text()}" for r, f in enumerate(texts) if f.exists())


def stack_file(pid: int) -> Path:
    """Where a member writes its stacks when asked by SIGUSR1."""
    return Path(tempfile.gettempdir()) / f"counterpoint-stacks-{pid}.txt"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _member_main(rank: int, size: int, port: int, device_type: str, pipe: Connection) -> None:
    import signal

    from counterpoint.verify.member import Member

    file = stack_file(os.getpid()).open("w")
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    member = Member.join(device_type)
    pipe.send(_Reply(None, None, 0))
    while True:
        try:
            task, arguments = pipe.recv()
        except EOFError:
            break
        try:
            pipe.send(_Reply(task(member, *arguments), None, 0))
        except CounterpointError as error:
            pipe.send(_Reply(None, f"{type(error).__name__}: {error}", error.exit_code))
        except Exception:
            pipe.send(_Reply(None, traceback.format_exc(), 1))
    file.close()
    stack_file(os.getpid()).unlink(missing_ok=True)
    os._exit(0)
