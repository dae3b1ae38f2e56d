"""One of the ranks that measure together."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoint.calibrate.exchanges import Ranks, groups_for
from counterpoint.calibrate.parts import Findings, parts_of
from counterpoint.calibrate.sizes import Device, sizes_for
from counterpoint.calibrate.stopwatch import Stopwatch
from counterpoint.config.training import WatchdogConfig
from counterpoint.console import say
from counterpoint.costs.file import write_hardware
from counterpoint.costs.fill import filled
from counterpoint.costs.hardware import Hardware
from counterpoint.execute.groups import all_ranks
from counterpoint.execute.session import open_session
from counterpoint.execute.whereabouts import Limit
from counterpoint.layers.attention.kernels import prefer_fast_kernels

_PATIENCE = Limit("the time of a part of calibrate", 240.0)
"""Longest time of a part; some compile kernels."""


@final
@dataclass(frozen=True, slots=True)
class Request:
    """The file to write, the device, whether a rough file is enough, and the hardware that gaps are filled from."""

    out: Path
    device: Device
    quick: bool
    base: Hardware | None


def work(request: Request, folder: str) -> None:
    """Measure part by part; the first rank writes the file after each, so that what ends it early loses little."""
    with open_session(request.device, Path(folder), WatchdogConfig()) as session:
        session.watchdog.enter("calibrate", limit=_PATIENCE)
        world = session.world
        if world.device.type == "cuda":
            prefer_fast_kernels()
        ranks, sizes = Ranks.of(world), sizes_for(request.device, quick=request.quick)
        watch = Stopwatch(world.device, sizes.window_seconds, all_ranks())
        findings = Findings(world.device, ranks)
        parts = parts_of(watch, sizes, ranks, groups_for(world, ranks), findings.hardware)
        findings.expect(parts)
        for name, measure in parts.items():
            session.watchdog.enter("calibrate", part=name, limit=_PATIENCE)
            begin = time.monotonic()
            said = findings.take(name, measure)
            if world.rank == 0:
                say(f"{name}: {said} ({time.monotonic() - begin:.1f} s)")
                known = findings.hardware()
                write_hardware(request.out, known if request.base is None else filled(known, request.base))
