"""`export`: a folder that transformers loads from a checkpoint of a run, written by several processes."""

import math
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from counterpoint.config.run_files import ERROR_FILE
from counterpoint.config.training import WatchdogConfig
from counterpoint.errors import InputError
from counterpoint.execute.groups import tree_of_all
from counterpoint.execute.session import open_session
from counterpoint.execute.whereabouts import Limit
from counterpoint.hub.claim import remove_abandoned
from counterpoint.hub.write import Export, write_export
from counterpoint.launch import adopt_slurm, check_world, is_joined, launch_local
from counterpoint.setup.export import ExportRequest, prepare_export

_BYTES_OF_PROCESS = 2**30
"""A further process starts for each of so many bytes: it takes seconds to start, and writes about as many bytes."""

_MOST_PROCESSES = 8


@final
@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: a folder with so many tensors made of the run's and carried over from the base folder.

    `left_out` are parameters of the run, as `module.name`, that no folder of this kind has. Of several processes that
    torchrun or Slurm started, one `is_leader`.
    """

    folder: Path
    step: int
    written: int
    carried: int
    size_bytes: int
    processes: int
    base: Path | None
    left_out: tuple[str, ...]
    is_leader: bool = True


def export_run(request: ExportRequest, ranks: int | None = None) -> Exported:
    """Write the folder, in `ranks` local processes or as one that torchrun or Slurm started; raises InputError before
    any process starts, RunError for what ends the writing."""
    if is_joined(os.environ):
        return _join(request, ranks)
    export = prepare_export(request, 1)
    processes = ranks if ranks is not None else _processes_for(export.plan.size_bytes)
    if processes == 1:
        write_export(export, 0, None)
        return _exported(request, export, processes)
    with tempfile.TemporaryDirectory(prefix="counterpoint-export-") as folder:
        try:
            launch_local(processes, work, (request, processes, folder), Path(folder) / ERROR_FILE)
        finally:
            # Left by a process that was killed; what is whole has another name.
            with suppress(InputError):
                remove_abandoned(export.partial)
    return _exported(request, export, processes)


def work(request: ExportRequest, processes: int, folder: str) -> None:
    """One of several processes, which have all of them planned the same."""
    with open_session("cpu", Path(folder), WatchdogConfig()) as session:
        session.watchdog.enter("export", limit=Limit("", math.inf))
        write_export(prepare_export(request, processes), session.world.rank, tree_of_all(session.world))


def _join(request: ExportRequest, ranks: int | None) -> Exported:
    adopt_slurm(os.environ)
    world = os.environ.get("WORLD_SIZE", "")
    processes = int(world) if world.isdigit() else 0
    check_world(processes, os.environ)
    if ranks not in (None, processes):
        raise InputError(f"--ranks: got {ranks} in a world of {processes} processes, expected no number; leave it out")
    export = prepare_export(request, processes)
    with tempfile.TemporaryDirectory(prefix="counterpoint-export-") as folder:
        work(request, processes, folder)
    return replace(_exported(request, export, processes), is_leader=os.environ["RANK"] == "0")


def _processes_for(size_bytes: int) -> int:
    return min(os.cpu_count() or 1, _MOST_PROCESSES, 1 + size_bytes // _BYTES_OF_PROCESS)


def _exported(request: ExportRequest, export: Export, processes: int) -> Exported:
    tensors = [one.tensor for one in export.plan.placed]
    written = sum(tensor.origin == "written" for tensor in tensors)
    return Exported(
        request.out,
        export.step,
        written,
        len(tensors) - written,
        export.plan.size_bytes,
        processes,
        export.contents.base,
        export.contents.left_out,
    )
