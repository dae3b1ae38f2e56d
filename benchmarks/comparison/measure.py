"""Timing and profiling of runs that are built side by side, in blocks of steps that alternate."""

import statistics
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from counterpoint.garbage import spared

from .breakdown import host_synchronisations, spans_of, step_breakdown
from .engine_run import EngineRun, allocated
from .kernel_groups import grouped
from .runs import Run
from .stick import TINY, StepTimer, sync

LEAST_FREE = 0.25
"""Share of a GPU's memory below which what a block leaves in the allocator's cache is given back."""

PROFILED_STEPS = 2
"""The last one is looked at; the first lets the host get as far ahead as it is in training."""

HOST_STEPS = 5

WARM_STEPS = 5
"""Steps of a build after which nothing should be compiled any more."""

_LINES = 60
_MOVES = 12


@dataclass(slots=True)
class Record:
    """What one rank saw of a run; `numbers` counts its steps, so that all runs draw the same ones.

    `timed` are the numbers of the steps in `seconds`, `peak_bytes` is the most that the run ever took, warm-up
    included, beside the inputs that were prepared, and `compilations` counts the graphs that were compiled, by the
    number of the step; `late_compilations` are those after the first steps of a build, `since_build` of which were
    taken.
    """

    seconds: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    timed: list[int] = field(default_factory=list)
    step_bytes: int = 0
    peak_bytes: int = 0
    compilations: dict[int, int] = field(default_factory=dict)
    late_compilations: int = 0
    since_build: int = 0
    cuda_allocations: int = 0
    numbers: int = 0
    losses: tuple[float, float] = (0.0, 0.0)
    facts: dict[str, Any] = field(default_factory=dict)
    bridge: dict[str, int] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)


def warm_up(run: Run, record: Record, steps: int) -> None:
    """Build a run and let it settle, untimed."""
    before, record.since_build = _start_peak(), 0
    run.build()  # Takes step 0.
    sync()
    _note_peak(record, before)
    record.numbers = max(record.numbers, 1)
    without = _start_peak()
    run.prepare(range(record.numbers, record.numbers + steps))
    before += allocated() - without
    with run.context():
        for _ in range(steps):
            _advance(run, record)
    sync()
    _note_peak(record, before)
    record.facts = run.facts()
    if isinstance(run, EngineRun):
        record.bridge = run.bridge_bytes()
    record.losses = run.losses()


def time_block(run: Run, record: Record, steps: int, control: dist.ProcessGroup) -> None:
    """One step that is not timed, then `steps` that are, all without waiting for the device in between.

    As in training, Python's collector leaves out what exists by then.
    """
    run.prepare(range(record.numbers, record.numbers + 1 + steps))
    sync()
    dist.barrier(control)
    before = _start_peak()
    timer = StepTimer()
    with run.context(), spared() as garbage:
        garbage.set_aside()
        _advance(run, record)
        allocations = _cuda_allocations()
        timer.mark()
        for _ in range(steps):
            record.timed.append(record.numbers)
            _advance(run, record)
            timer.mark()
        seconds = timer.seconds()
    record.seconds += seconds
    record.blocks.append(sum(seconds) / steps)
    record.cuda_allocations += _cuda_allocations() - allocations
    record.losses = run.losses()
    if not TINY:
        record.step_bytes = max(record.step_bytes, torch.cuda.max_memory_allocated() - before)
        _note_peak(record, before - run.held)
        free, total = torch.cuda.mem_get_info()
        if free < LEAST_FREE * total:
            torch.cuda.empty_cache()


def profile_run(run: Run, record: Record, control: dist.ProcessGroup) -> None:
    """A step under the profiler, the places at which the host waits, and the host's own time."""
    run.prepare(range(record.numbers, record.numbers + PROFILED_STEPS + 1))
    sync()
    dist.barrier(control)
    activity = ProfilerActivity.CPU if TINY else ProfilerActivity.CUDA
    with run.context(), profile(activities=[activity], acc_events=True) as profiler:
        for _ in range(PROFILED_STEPS):
            _mark()
            _advance(run, record)
        _mark()
        sync()
    events = list(profiler.profiler.kineto_results.events())
    cuda = DeviceType.CUDA
    breakdown = step_breakdown(spans_of(events, True, cuda))
    found = {} if breakdown is None else asdict(breakdown)
    if breakdown is not None:
        found["groups"] = {name: asdict(one) for name, one in grouped(breakdown.table, breakdown.idle).items()}
    found["host_synchronisations"] = host_synchronisations(spans_of(events, False, cuda), PROFILED_STEPS)
    found["waits_at"] = _waits_at(run, record)
    if isinstance(run, EngineRun):
        found["host_seconds"] = run.host_seconds(HOST_STEPS, sync)
    record.profile = found


def write_profile(path: Path, name: str, ranks: list[Record], modules: list[tuple[str, ...]], step: float) -> None:
    """A page: each rank's step, then the kernels and gaps of one rank for each set of modules."""
    lines = [f"{name}: {step * 1e3:.1f} ms a step without the profiler"]
    lines += [_rank_line(number, record.profile) for number, record in enumerate(ranks)]
    waits = sum((Counter(record.profile["waits_at"]) for record in ranks), Counter[str]())
    lines += [f"host waits at {place}: {count} on {len(ranks)} ranks" for place, count in waits.most_common(6)]
    hosts = [record.profile["host_seconds"] for record in ranks if "host_seconds" in record.profile]
    host = [statistics.median(seconds) for seconds in hosts]
    if host:
        lines.append(f"interpreter and bridge on the host: {max(host) * 1e3:.2f} ms, {max(host) / step:.2%} of a step")
    shown = sorted({modules.index(held) for held in modules})
    each = (_LINES - len(lines)) // len(shown) - 1
    for number in shown:
        table = ranks[number].profile.get("table", ())
        groups = ranks[number].profile.get("groups", {})
        parts = (f"{name} {one['seconds'] * 1e3:.1f} ({one['kernels']})" for name, one in groups.items())
        lines.append(f"rank {number}, ms of a step and kernels by group: {', '.join(parts) or 'none'}")
        lines.append(f"rank {number} ({', '.join(modules[number])}), ms, calls, share of the step, kernel")
        window = ranks[number].profile.get("window", 0.0)
        lines += [f"{s * 1e3:9.3f} {calls:6} {s / window:6.1%}  {kernel[:110]}" for s, calls, kernel in table[:each]]
        # On the rank that others wait for NCCL's kernels are the shortest, and its gaps are what a step loses.
        alike = [rank for rank, held in enumerate(modules) if held == modules[number]]
        last = min(alike, key=lambda rank: ranks[rank].profile.get("nccl", 0.0))
        lines.append(f"rank {last}, the last to come, ms without a kernel but NCCL's, at, behind which, before which")
        gaps = ranks[last].profile.get("gaps", ())
        lines += [f"{s * 1e3:9.3f} {at * 1e3:8.1f}  {a[:70]} | {b[:70]}" for s, at, a, b in gaps]
        moves = ranks[number].profile.get("moves", ())[:_MOVES]
        lines.append(f"rank {number}, first sends and receives, ms at ms: " + _moves(moves))
    path.write_text("\n".join(lines) + "\n")


def _rank_line(number: int, found: dict[str, Any]) -> str:
    waits = ", ".join(f"{count:g} {name}" for name, count in found["host_synchronisations"].items()) or "none"
    if "window" not in found:
        return f"rank {number}: no kernels; host synchronisations: {waits}"
    window = found["window"]
    return (
        f"rank {number}: {window * 1e3:.1f} ms, busy {found['compute'] / window:.1%}, "
        f"NCCL {found['nccl'] * 1e3:.1f} ms, exposed {found['exposed'] * 1e3:.1f} ms "
        f"(transfers {found['exposed_transfers'] * 1e3:.1f}), idle {found['idle'] * 1e3:.1f} ms, "
        f"{found['kernels']} + {found['nccl_kernels']} NCCL kernels; host synchronisations: {waits}"
    )


def _moves(moves: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{s * 1e3:.2f} at {at * 1e3:.1f}" for s, at in moves) or "none"


def _waits_at(run: Run, record: Record) -> dict[str, int]:
    """The lines at which a step makes the host wait, as torch notes them."""
    if TINY:
        return {}
    sync()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught, run.context():
            warnings.simplefilter("always")
            _advance(run, record)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    sync()
    places = [f"{'/'.join(Path(w.filename).parts[-3:])}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    return dict(Counter(places))


def compilations() -> int:
    """Graphs that this process has compiled."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _advance(run: Run, record: Record) -> None:
    before = compilations()
    run.step(record.numbers)
    if compiled := compilations() - before:
        record.compilations[record.numbers] = compiled
        record.late_compilations += compiled if record.since_build >= WARM_STEPS else 0
    record.numbers += 1
    record.since_build += 1


def _start_peak() -> int:
    """Bytes allocated now, from which a peak is measured."""
    if not TINY:
        torch.cuda.reset_peak_memory_stats()
    return allocated()


def _note_peak(record: Record, before: int) -> None:
    if not TINY:
        record.peak_bytes = max(record.peak_bytes, torch.cuda.max_memory_allocated() - before)


def _mark() -> None:
    if not TINY:
        torch.cuda._sleep(1000)


def _cuda_allocations() -> int:
    return 0 if TINY else int(torch.cuda.memory_stats().get("num_device_alloc", 0))
