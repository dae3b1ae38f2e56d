"""Starting ranks: join the processes that torchrun or Slurm started, or start local ones with torch's elastic agent."""

import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.errors import CounterpointError, InputError, RunError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


RUN_ID_PREFIX = "counterpoint-"
"""What the ids of runs begin with whose ranks were started here."""


class SignalledError(CounterpointError):
    """The run was ended by a signal, after it saved."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; resume: auto goes on from the newest checkpoint")
        self.exit_code = 128 + number


def is_joined(environment: Mapping[str, str]) -> bool:
    """Whether this process is one rank that torchrun or Slurm started."""
    return "RANK" in environment or ("SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1)


def adopt_slurm(environment: dict[str, str] | os._Environ[str]) -> None:
    """Set torchrun's variables from Slurm's where only Slurm's are there."""
    if "RANK" in environment or "SLURM_PROCID" not in environment:
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
    environment["LOCAL_RANK"] = environment.get("SLURM_LOCALID", "0")
    environment.setdefault("MASTER_ADDR", _first_host(environment))
    environment.setdefault("MASTER_PORT", str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000))


def _first_host(environment: Mapping[str, str]) -> str:
    """The first host of Slurm's node list: `gpu[003-007,9],cpu1` gives `gpu003`."""
    if "SLURM_LAUNCH_NODE_IPADDR" in environment:
        return environment["SLURM_LAUNCH_NODE_IPADDR"]
    nodes = environment.get("SLURM_JOB_NODELIST", "localhost")
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    return nodes if match is None else match[1] + (match[2] or "")


def check_world(expected: int, environment: Mapping[str, str]) -> None:
    """Raise InputError if the launcher started another number of ranks than the config's world.size."""
    started = int(environment.get("WORLD_SIZE", expected))
    if started != expected:
        raise InputError(
            f"world.size: got {expected} in the config but {started} ranks were started, expected the same number; "
            f"start {expected} ranks or set world.size={started}"
        )


def launch_local(
    ranks: int, entry: Callable[..., None], arguments: tuple[Any, ...], error_file: Path, port: int = 0
) -> None:
    """Run `entry(*arguments)` in `ranks` local processes; raises what ended them, read from `error_file`.

    Workers fork from a server process that has imported torch once. `port` is the rendezvous port, 0 for any free one.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _check_port(port)
    error_file.unlink(missing_ok=True)
    # The agent's own report of a failed child would come after, and hide, the failing rank's sentence.
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    multiprocessing.set_forkserver_preload(["counterpoint.worker"])
    lifeline, held = multiprocessing.get_context("forkserver").Pipe(duplex=False)
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=f"{RUN_ID_PREFIX}{os.getpid()}", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint=f"127.0.0.1:{port}", start_method="forkserver",
        logs_specs=DefaultLogsSpecs(), monitor_interval=0.1, local_addr="127.0.0.1",
    )  # fmt: skip
    try:
        elastic_launch(launch, _start_rank)(lifeline, entry, arguments)
    except ChildFailedError as failed:
        raise _cause(error_file, failed) from None
    except SignalException as signalled:
        raise SignalledError(int(signalled.sigval)) from None
    finally:
        held.close()


def _start_rank(lifeline: Connection, entry: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run a rank that ends when its launcher is killed, instead of holding its devices as an orphan."""
    threading.Thread(target=_end_with, args=(lifeline,), name="launcher watch", daemon=True).start()
    entry(*arguments)


def _end_with(lifeline: Connection) -> None:
    """Wait for the end of a pipe whose other side only the launcher holds."""
    try:
        lifeline.recv()
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
                f"--port: got {port}, which is in use ({error.strerror}), expected a free port; "
                "choose another, or leave it out for any free one"
            ) from None


def _cause(error_file: Path, failed: "ChildFailedError") -> CounterpointError:
    """The error of the rank that failed first, with its exit code."""
    rank, failure = failed.get_first_failure()
    if failure.exitcode < 0 or not error_file.exists():
        return RunError(
            f"rank {rank} ended without a report, by {failure.signal_name()} with exit code {failure.exitcode}; "
            "a rank that is killed is often out of memory"
        )
    record = json.loads(error_file.read_text())
    error = CounterpointError(f"rank {record['rank']}, {record['action']}: {record['message']}")
    error.exit_code = record["exit_code"]
    return error
