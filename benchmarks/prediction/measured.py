"""Measures steps of layouts on the ranks of a pool: seconds on each rank, memory, and the actions of one step."""

import gc
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from comparison.breakdown import spans_of, step_breakdown
from comparison.kernel_groups import grouped
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.garbage import spared
from counterpoint.models.movable import all_to
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import open_run
from counterpoint.train.engine import Engine, LaunchedStep
from counterpoint.train.metrics.timing import StepTimer
from counterpoint.verify.member import Member

_LEAST_SHARE, _LONGEST_NAME = 0.002, 120
"""Kernels of a smaller share of a step are not listed by name, and names of templates are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Blocks of a layout, timed steps of a block, and steps before all blocks; `batches` different steps take turns.
    With `profiles` one more step of each layout runs under the profiler, on GPUs.
    """

    rounds: int
    steps: int
    warmup: int
    batches: int
    profiles: bool = False


@dataclass(slots=True)
class Measured:
    """What one rank saw: seconds of the timed steps by block and which of the batches each had, bytes, the actions of a
    step, and seconds and number of its kernels by group."""

    blocks: list[list[float]] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    held_bytes: int = 0
    peak_bytes: int = 0
    reserved_bytes: int = 0
    build_seconds: float = 0.0
    actions: list[dict[str, Any]] = field(default_factory=list)
    kernels: dict[str, Any] = field(default_factory=dict)


class _Running:
    """A layout's engine on this rank, and its inputs, which lie on the device."""

    def __init__(self, member: Member, config: Config, effort: Effort, control: dist.ProcessGroup) -> None:
        self._control = control
        self.found, self._device = Measured(), member.world.device
        started, before = time.perf_counter(), _allocated()
        plan, models, corpus = open_run(config)
        groups = member.groups(plan)
        self._timer = StepTimer(self._device)
        self._engine = Engine(settings_of(config), plan, models, groups, (member.observe, self._timer.observe))
        self._engine.tell_arrivals(self._timer.arrived)
        reader = Reader(plan, member.world.rank, corpus.sources, dtype_of(plan.dtype))
        batches = [plan.batch(step, corpus.packs(step)) for step in range(effort.batches)]
        built = _allocated()
        self._inputs = [_resident(reader.read(batch), self._device) for batch in batches]
        inputs = _allocated() - built
        self._launched: LaunchedStep | None = None
        self._stepped = 0
        for _ in range(max(effort.warmup, effort.batches)):
            self._step()
        self._read()
        self.found.held_bytes = _allocated() - before - inputs
        self.found.build_seconds = time.perf_counter() - started

    def block(self, steps: int) -> None:
        """One step that is not timed, then steps that are; the host does not wait in between."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        before = _allocated()
        dist.barrier(self._control)
        self._step()
        marks, first = [self._mark()], self._stepped
        for _ in range(steps):
            self._step()
            marks.append(self._mark())
        self._read()
        self.found.blocks.append(_between(marks))
        self.found.batches.append([number % len(self._inputs) for number in range(first, self._stepped)])
        if self._device.type == "cuda":
            self.found.peak_bytes = max(self.found.peak_bytes, torch.cuda.max_memory_allocated() - before)
            self.found.reserved_bytes = max(self.found.reserved_bytes, torch.cuda.memory_reserved())

    def time_actions(self) -> None:
        """When each action of one more step began and ended."""
        self._step()
        self._read()
        self._timer.begin()
        self._step()
        timed = self._timer.end()
        self._read()
        self.found.actions = timed.actions()

    def profile(self) -> None:
        """The kernels of a step that follows another."""
        if self._device.type != "cuda":
            return
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
            for _ in range(2):
                torch.cuda._sleep(1000)
                self._step()
            torch.cuda._sleep(1000)
            self._read()
            torch.cuda.synchronize()
        spans = spans_of(profiler.profiler.kineto_results.events(), True, DeviceType.CUDA)
        if (found := step_breakdown(spans)) is not None:
            groups = {name: asdict(one) for name, one in grouped(found.table, found.idle).items()}
            longest = [one for one in found.table if one[0] >= _LEAST_SHARE * found.window]
            self.found.kernels = {
                "window": found.window, "exposed": found.exposed, "groups": groups,
                "longest": [(seconds, calls, name[:_LONGEST_NAME]) for seconds, calls, name in longest],
            }  # fmt: skip

    def close(self) -> None:
        self._read()
        self._engine.close()

    def _step(self) -> None:
        launched = self._engine.launch_step(self._inputs[self._stepped % len(self._inputs)])
        self._stepped += 1
        self._read()
        self._launched = launched

    def _read(self) -> None:
        """As in training: a step is read while the next one is under way."""
        if self._launched is not None:
            self._launched.result()
        self._launched = None

    def _mark(self) -> Any:
        if self._device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def measure(member: Member, configs: dict[str, Config], effort: Effort) -> dict[str, list[Measured]] | None:
    """Build all configs, step them in blocks that take turns, and free them: by name what each rank saw."""
    gathered = _measured(member, configs, effort)
    # Engines are cycles, which must be gone before the next ones are built: they would count as there before these,
    # and be missed by what these hold as soon as Python collects them.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {name: [each[name] for each in gathered] for name in configs} if member.world.rank == 0 else None


def _measured(member: Member, configs: dict[str, Config], effort: Effort) -> list[dict[str, Measured]]:
    """By rank and name; only what this returns outlives it."""
    control = dist.new_group(backend="gloo")
    running = {name: _Running(member, config, effort, control) for name, config in configs.items()}
    with spared() as garbage:
        # As in training, where full collections would take half a second of some steps.
        garbage.set_aside()
        for _round in range(effort.rounds):
            for one in running.values():
                one.block(effort.steps)
        for one in running.values():
            one.time_actions()
            if effort.profiles:
                one.profile()
    gathered: list[Any] = [None] * control.size()
    dist.all_gather_object(gathered, {name: one.found for name, one in running.items()}, group=control)
    for one in running.values():
        one.close()
    return gathered


def _resident(inputs: StepInputs, device: torch.device) -> StepInputs:
    maps = {key: rows.to(device) for key, rows in inputs.maps.items()}
    return replace(inputs, batches=all_to(inputs.batches, device), maps=maps)


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _between(marks: list[Any]) -> list[float]:
    if isinstance(marks[0], float):
        return [after - before for before, after in pairwise(marks)]
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]
