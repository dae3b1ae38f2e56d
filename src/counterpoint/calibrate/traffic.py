"""Launches, element-wise kernels, copies and the optimizer's update."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F

from counterpoint.calibrate.computes import table
from counterpoint.calibrate.stopwatch import Call, Stopwatch, Timing, cold_copies, in_turn, random
from counterpoint.costs.table import Table
from counterpoint.optimizers.adamw.choice import adamw_update
from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import Shard, Team

_LAUNCHES = 200

_TENSORS = 8
"""Updated by one call on a CPU."""


def launch_seconds(watch: Stopwatch) -> float:
    """The host's time for one small kernel of forward or backward: autograd included, modules not."""

    def make() -> Call:
        inputs = torch.randn(16, device=watch.device, requires_grad=True)

        def call() -> None:
            out = inputs
            for _launch in range(_LAUNCHES):
                out = out * inputs
            torch.autograd.grad(out.sum(), inputs)

        return call

    # Each product has two gradients, and a sum of them.
    return watch.host(make) / (4 * _LAUNCHES)


def elementwise(watch: Stopwatch, elements: Sequence[int]) -> Table:
    """By bytes: a sum, an activation and a product, which read and write eight tensors in three kernels."""
    dtype = torch.bfloat16 if watch.device.type == "cuda" else torch.float32

    def one(count: int) -> Call:
        a, b = (random((count,), dtype, watch.device) for _input in range(2))
        return lambda: F.silu(a + b) * b

    def make(count: int) -> Call:
        copies = cold_copies(2 * count * dtype.itemsize, watch.device) if watch.device.type == "cpu" else 1
        return in_turn([one(count) for _copy in range(copies)])

    return _curve(watch, "bytes", [(count, 8 / 3 * count * dtype.itemsize) for count in elements], make, 3)


def copies(watch: Stopwatch, elements: Sequence[int]) -> Table:
    """By bytes of what is copied."""

    def make(count: int) -> Call:
        source, target = (random((count,), torch.float32, watch.device) for _end in range(2))
        return lambda: target.copy_(source)

    return _curve(watch, "bytes", [(count, 4.0 * count) for count in elements], make)


def host_copies(watch: Stopwatch, elements: Sequence[int]) -> Table:
    """By bytes: there and back between pinned memory of the host and the device, half of it each."""

    def make(count: int) -> Call:
        here = torch.empty(count, pin_memory=watch.device.type == "cuda")
        there = random((count,), torch.float32, watch.device)

        def call() -> None:
            here.copy_(there, non_blocking=True)
            there.copy_(here, non_blocking=True)

        return call

    return _curve(watch, "bytes", [(count, 4.0 * count) for count in elements], make, 2)


def updates(watch: Stopwatch, elements: Sequence[int]) -> Table:
    """By parameters, float32, of AdamW with clipped gradients: of a rank on a GPU, of one of its tensors on a CPU."""
    tensors = 1 if watch.device.type == "cuda" else _TENSORS

    def make(count: int) -> Call:
        shape = (max(count // 256, 1), min(count, 256))
        values, gradients = ([random(shape, torch.float32, watch.device) for _of in range(tensors)] for _end in "vg")
        shards = [Shard(f"{n}.weight", shape, Piece((0, 0), shape), each) for n, each in enumerate(values)]
        team = Team(None, 0, {}, torch.float32, watch.device)
        update = adamw_update(AdamWSection(lr=1e-4), shards, team)
        scale = torch.ones((), dtype=torch.float64, device=watch.device)
        is_broken = torch.zeros((), dtype=torch.bool, device=watch.device)
        return lambda: update.step_scaled(gradients, scale, 1e-4, is_broken)

    return _curve(watch, "parameters", [(count, float(count)) for count in elements], make, tensors)


def _curve(
    watch: Stopwatch, name: str, sizes: Sequence[tuple[int, float]], make: Callable[[int], Call], parts: int = 1
) -> Table:
    """A table over one axis of (elements, place on the axis); a call makes so many `parts`, such as kernels."""
    timings: list[Timing | None] = []
    for count, _place in sizes:
        timing = watch.time(partial(make, count))
        timings.append(Timing(timing.seconds / parts, timing.spread))
    return table({name: tuple(place for _count, place in sizes)}, timings)
