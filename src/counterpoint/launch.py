"""Starting ranks: join the processes that torchrun or Slurm started, or start local ones with torch's elastic agent."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from counterpoint.argument import argument
from counterpoint.errors import CounterpointError, InputError, RunError
from counterpoint.program import IMPORTED_AGAIN, unguarded
from counterpoint.slurm import first_host, tasks_of_node

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


RUN_ID_PREFIX = "counterpoint-"
"""Prefix of the ids of runs whose ranks were started here."""

RESUME = "resume: auto goes on from the newest checkpoint"
"""How a training that a signal ended goes on; nothing else has checkpoints."""

LOST_RANK = "LostRankError"
"""The kind of a report that a rank wrote about another one that is gone."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIGNAL_BASE = 128
"""Added by a shell to a signal's number to make an exit code."""

_STEP_TASKS = "SLURM_STEP_NUM_TASKS"
_NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
_TASKS_OF_NODES = "SLURM_STEP_TASKS_PER_NODE"
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
_LARGEST_PORT = 2**16 - 1
_START_RANKS = "start ranks with torchrun or srun, or unset RANK to start them here"


class SignalledError(CounterpointError):
    """The run was ended by a signal, after it saved; `remedy` is how to go on, if that is possible."""

    def __init__(self, number: int, remedy: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{remedy and f'; {remedy}'}")
        self.number = number
        self.exit_code = _SIGNAL_BASE + number


def is_joined(environment: Mapping[str, str]) -> bool:
    """Whether this process is one rank that torchrun or Slurm's srun started; raises InputError for junk."""
    return "RANK" in environment or _is_slurm_task(environment)


def _is_slurm_task(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process: only srun sets a step's tasks; batch scripts and shells are not ranks."""
    is_step = "SLURM_PROCID" in environment and _STEP_TASKS in environment
    return is_step and _number(environment, _STEP_TASKS) > 1


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Set torchrun's variables from Slurm's if only Slurm's are set; raises InputError for junk."""
    if "RANK" in environment or not _is_slurm_task(environment):
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = environment[_STEP_TASKS]
    environment["LOCAL_RANK"] = environment.get("SLURM_LOCALID", "0")
    if _TASKS_OF_NODES in environment:
        node = _number(environment, "SLURM_NODEID") if "SLURM_NODEID" in environment else 0
        environment["LOCAL_WORLD_SIZE"] = str(tasks_of_node(environment[_TASKS_OF_NODES], _TASKS_OF_NODES, node))
    if "MASTER_ADDR" not in environment:
        environment["MASTER_ADDR"] = _first_host(environment)
    job = _number(environment, "SLURM_JOB_ID") if "SLURM_JOB_ID" in environment else 0
    environment.setdefault("MASTER_PORT", str(20000 + job % 20000))


def _first_host(environment: Mapping[str, str]) -> str:
    """The host of rank 0: the first of the step's nodes, which need not be all nodes of the job."""
    for name in _NODE_LISTS:
        if name in environment:
            return first_host(environment[name], name)
    raise InputError(
        f"{_NODE_LISTS[0]}: got nothing in the environment, expected the hosts of Slurm's step; start ranks with srun, "
        "or set MASTER_ADDR to the host of rank 0"
    )


def restarts(environment: Mapping[str, str]) -> int:
    """How often torchrun or Slurm has started these ranks again; raises InputError for junk."""
    return max(_number(environment, name) if name in environment else 0 for name in _RESTARTS)


def check_world(expected: int, environment: Mapping[str, str]) -> int:
    """This process's rank; raises InputError if its launcher started another number of ranks, or left junk."""
    started, rank = _number(environment, "WORLD_SIZE"), _number(environment, "RANK")
    if started != expected:
        raise InputError(
            f"world.size: got {expected} in the config but {started} ranks were started, expected the same number; "
            f"start {expected} ranks or set world.size={started}"
        )
    if rank >= started:
        raise InputError(f"RANK: got {rank} of {started} ranks, expected 0 to {started - 1}; {_START_RANKS}")
    local = _number(environment, "LOCAL_RANK")
    if "LOCAL_WORLD_SIZE" in environment and local >= (ranks := _number(environment, "LOCAL_WORLD_SIZE")):
        raise InputError(
            f"LOCAL_RANK: got {local} of LOCAL_WORLD_SIZE {ranks}, expected a lower number, from 0; {_START_RANKS}"
        )
    port = _number(environment, "MASTER_PORT")
    if not 0 < port <= _LARGEST_PORT:
        raise InputError(f"MASTER_PORT: got {port}, expected 1 to {_LARGEST_PORT}; {_START_RANKS}")
    if not environment.get("MASTER_ADDR"):
        raise InputError(f"MASTER_ADDR: got nothing, expected the host of rank 0; {_START_RANKS}")
    return rank


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{name}: got {text!r} in the environment, expected a whole number; {_START_RANKS}")
    return int(text)


def launch_local(
    ranks: int,
    entry: Callable[..., None],
    arguments: tuple[Any, ...],
    error_file: Path,
    port: int = 0,
    prepare: Callable[[], object] = lambda: None,
    conclude: Callable[[CounterpointError | None], object] = lambda _error: None,
) -> None:
    """Run `entry(*arguments)` in `ranks` local processes; raises what ended them, read from `error_file`.

    Workers fork from a server process that has imported torch once. `port` is the rendezvous port, 0 for any free one.
    `prepare` is called before any rank starts, with signals noted already; `conclude` once all ranks have ended, with
    the error that is about to be raised.
    """
    _check_port(port)
    with Lifelines(ranks) as lifelines:
        prepare()
        error_file.unlink(missing_ok=True)
        try:
            _run_agent(ranks, entry, arguments, error_file, port, lifelines)
        except CounterpointError as error:
            conclude(error)
            raise
        conclude(None)


def _run_agent(
    ranks: int, entry: Callable[..., None], arguments: tuple[Any, ...], error_file: Path, port: int,
    lifelines: "Lifelines",
) -> None:  # fmt: skip
    # Imported while signals are only noted: an exception that a handler raises may be lost inside a module's import.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if lifelines.signal is not None:
        raise SignalledError(lifelines.signal)
    # The agent's own report of a failed child would come after, and hide, the failing rank's sentence.
    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=f"{RUN_ID_PREFIX}{os.getpid()}", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint=f"127.0.0.1:{port}", start_method="forkserver",
        logs_specs=DefaultLogsSpecs(), monitor_interval=0.1, local_addr="127.0.0.1",
        signals_to_handle="SIGHUP,SIGQUIT",
    )  # fmt: skip
    try:
        elastic_launch(launch, _start_rank)(lifelines.ends, entry, arguments)
    except ChildFailedError as failed:
        raise _cause(error_file, failed, lifelines.signal) from None
    except SignalException as signalled:
        raise SignalledError(int(signalled.sigval)) from None
    except KeyboardInterrupt:
        raise SignalledError(lifelines.signal or signal.SIGINT) from None


class Lifelines:
    """A pipe to every rank: it carries signals, which the rank raises for itself, and its closing ends the rank.

    The agent would kill ranks some seconds after a signal; a rank that saves takes as long as its watchdog lets it.
    """

    def __init__(self, ranks: int) -> None:
        pipes = [multiprocessing.get_context("forkserver").Pipe(duplex=False) for _rank in range(ranks)]
        self.ends = tuple(end for end, _held in pipes)
        self.signal: int | None = None
        self._held = tuple(held for _end, held in pipes)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Lifelines":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._forward) for number in _SIGNALS}
        start_fork_server()
        return self

    def __exit__(self, *_raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for held in self._held:
            held.close()

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            # A second signal means not to wait: the agent ends the ranks that still work.
            raise KeyboardInterrupt
        self.signal = number
        for held in self._held:
            with suppress(OSError):
                held.send(number)


def start_fork_server() -> None:
    """Start the server that ranks fork from, if it does not run, without waiting for its imports.

    Signals are blocked there: a signal to the whole group must not end it while ranks save.
    """
    multiprocessing.set_forkserver_preload(["counterpoint.worker"])
    # Started later, the tracker would let them through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_rank(lifelines: tuple[Connection, ...], entry: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run a rank that ends when its launcher is killed, instead of holding its devices as an orphan."""
    for number in _SIGNALS:
        # Until the step loop handles them there is nothing to save, and no handler runs inside a hanging call.
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    own = lifelines[int(os.environ["LOCAL_RANK"])]
    threading.Thread(target=_follow, args=(own,), name="launcher watch", daemon=True).start()
    entry(*arguments)


def _follow(lifeline: Connection) -> None:
    """Receive signals from a pipe whose other end only the launcher holds, until the launcher is gone."""
    try:
        while True:
            os.kill(os.getpid(), lifeline.recv())
    except (EOFError, OSError):
        os._exit(1)


def _check_port(port: int) -> None:
    if not port:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"{argument('port')}: got {port}, which is in use ({error.strerror}), expected a free port; "
                "choose another, or leave it out for any free one"
            ) from None


def _cause(error_file: Path, failed: "ChildFailedError", signalled: int | None) -> CounterpointError:
    """The error of the rank that failed first, with its exit code; `signalled` is what the launcher passed on.

    How it ended, which only its launcher knows, goes before other ranks' reports that it is gone.
    """
    rank, failure = failed.get_first_failure()
    if failure.exitcode == IMPORTED_AGAIN:
        return unguarded()
    record = _record(error_file)
    if record is not None and failure.exitcode >= 0 and not _is_of_others(record, rank, failure.exitcode):
        return _told(record)
    if failure.exitcode - _SIGNAL_BASE in _SIGNALS:
        return SignalledError(failure.exitcode - _SIGNAL_BASE)
    if signalled is not None and failure.exitcode == -signalled:
        return SignalledError(signalled)
    if record is not None and record["rank"] != rank and failure.exitcode >= 0:
        # This rank only reported another one, which ended before it, seemingly in order.
        return _told(record)
    seen = "" if record is None else f"; the others were at step {record['step']}: {record['message']}"
    if failure.exitcode < 0:
        words = (
            f"rank {rank} ended without a report, by {failure.signal_name()} with exit code {failure.exitcode}; "
            "a rank that is killed is often out of memory"
        )
        return _amended(error_file, record, RunError(words + seen), rank)
    words = (
        f"rank {rank} ended with exit code {failure.exitcode} and left no report in {error_file}; what it wrote above "
        "says why"
    )
    return _amended(error_file, record, _with_code(words + seen, failure.exitcode), rank)


def _is_of_others(record: dict[str, Any], rank: int, exit_code: int) -> bool:
    """Whether a report is only what other ranks saw of a rank that ended; a reporting rank leaves with its code."""
    return bool(record["kind"] == LOST_RANK or (record["rank"] == rank and record["exit_code"] != exit_code))


def _record(error_file: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(error_file.read_text())
    except FileNotFoundError:
        return None
    return record


def _told(record: dict[str, Any]) -> CounterpointError:
    return _with_code(f"rank {record['rank']}, {record['action']}: {record['message']}", record["exit_code"])


def _amended(error_file: Path, record: dict[str, Any] | None, error: CounterpointError, rank: int) -> CounterpointError:
    """The error, once the report in the run folder says how the rank ended, which other ranks could not know."""
    if record is not None:
        told = {"rank": rank, "message": str(error), "exit_code": error.exit_code}
        with suppress(OSError):
            error_file.write_text(json.dumps(record | told, indent=2))
    return error


def _with_code(words: str, exit_code: int) -> CounterpointError:
    error = CounterpointError(words)
    error.exit_code = exit_code
    return error
