"""`calibrate`: measures this machine on ranks that it starts, or as one rank that torchrun or Slurm started."""

import os
import sys
import tempfile
from pathlib import Path
from typing import get_args

from counterpoint import costs
from counterpoint.argument import argument
from counterpoint.calibrate.sizes import Device
from counterpoint.config.run_files import ERROR_FILE
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import CounterpointError, InputError, RunError
from counterpoint.launch import adopt_slurm, check_world, is_joined, launch_local, start_fork_server
from counterpoint.program import check_program


def calibrate(
    out: Path,
    device: str | None = None,
    ranks: int | None = None,
    *,
    quick: bool = False,
    fill_from: str | None = None,
    force: bool = False,
) -> Hardware | None:
    """Measure into the file `out` on a GPU, if there is one, or a `device`, with `ranks` local processes, or else one
    for each GPU or core; returns what the file says, None on other ranks than the first of a joined world.

    `quick` figures are rough; gaps are filled from other hardware, by name or file. Raises InputError before anything
    is measured; what ends it later leaves a file with what was measured until then.
    """
    _check_file(out, force)
    if device not in (None, *get_args(Device)):
        raise InputError(f"{argument('device')}: got {device!r}, expected cuda or cpu; choose one, or leave it out")
    base = None if fill_from is None else costs.load(fill_from)
    if not is_joined(os.environ):
        check_program()
    if not is_joined(os.environ) and "torch" not in sys.modules:
        # The server that ranks fork from imports torch while this process does.
        start_fork_server()
    from counterpoint.calibrate.rank import Request, work

    found = _device(device, ranks)
    if base is not None and base.device != found:
        raise InputError(
            f"{argument('fill_from')}: got {base.name}, whose device is {base.device}, for a measurement of {found}, "
            "expected the same device; name other hardware"
        )
    # An older file would be taken for what was measured until an error.
    out.unlink(missing_ok=True)
    request = Request(out.absolute(), found, quick, base)
    joined = _join(ranks) if is_joined(os.environ) else None
    with tempfile.TemporaryDirectory(prefix="counterpoint-calibrate-") as folder:
        if joined is not None:
            work(request, folder)
            return costs.load(request.out) if joined == 0 else None
        processes = _processors(found) if ranks is None else ranks
        try:
            launch_local(processes, work, (request, folder), Path(folder) / ERROR_FILE)
        except CounterpointError as error:
            raise _with_file(error, out) from None
    return costs.load(request.out)


def _check_file(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise InputError(f"{out}: already exists, expected a new file; choose another, or add {argument('force')}")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{argument('out')}: got {out}, expected a file in a folder that exists; create the folder")


def _device(device: str | None, ranks: int | None) -> Device:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device is None and not gpus):
        return "cpu"
    if not gpus:
        raise InputError(f"{argument('device')}: got cuda on a machine without a usable GPU, expected one; choose cpu")
    if ranks is not None and ranks > gpus and not is_joined(os.environ):
        raise InputError(
            f"{argument('ranks')}: got {ranks} with {gpus} GPUs here, expected one GPU a rank; ask for fewer, or leave "
            "it out"
        )
    return "cuda"


def _processors(device: Device) -> int:
    import torch

    return torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1


def _join(ranks: int | None) -> int:
    """This process's rank among those that were started."""
    adopt_slurm(os.environ)
    world = os.environ.get("WORLD_SIZE", "")
    processes = int(world) if world.isdigit() else 0
    if ranks not in (None, processes):
        raise InputError(
            f"{argument('ranks')}: got {ranks} in a world of {processes} processes, expected no number; leave it out"
        )
    return check_world(processes, os.environ)


def _with_file(error: CounterpointError, out: Path) -> CounterpointError:
    if not out.exists():
        return error
    told = RunError(f"{error}; {out} has what was measured until then, and names the rest")
    told.exit_code = error.exit_code
    return told
