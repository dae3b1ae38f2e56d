"""Products, grouped products, attention and scans, by the functions that layers call."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.calibrate.sizes import GroupSizes, HeadSizes, ScanSizes, Sizes
from counterpoint.calibrate.stopwatch import Call, Stopwatch, Timing, cold_copies, in_turn, random
from counterpoint.costs.hardware import Attention, Ways
from counterpoint.costs.table import Axis, Table
from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.sublayer import attend
from counterpoint.layers.mamba.sublayer import MambaMix
from counterpoint.models.multiply import grouped_product, groups_of
from counterpoint.models.segments import Segments

_CAUSAL_FROM = 128
"""Heads from this size on are measured as a decoder's, narrower ones as an encoder's, which see whole items."""


def table(axes: dict[str, tuple[float, ...]], timings: Sequence[Timing | None]) -> Table:
    """A table of timings over named axes; None is a size that cannot be."""
    return Table(
        tuple(Axis(name, values) for name, values in axes.items()),
        tuple(None if timing is None else timing.seconds for timing in timings),
        tuple(0.0 if timing is None else timing.spread for timing in timings),
    )


def floats(values: tuple[int, ...]) -> tuple[float, ...]:
    """Whole numbers as an axis holds them."""
    return tuple(map(float, values))


def products(watch: Stopwatch, sizes: Sizes, dtype: str) -> Table:
    """A layer's product with its two gradients, a third of them each: the smallest size is in turn in all places."""
    sides = sizes.sides[dtype]
    smallest = tuple(size for size in sizes.smallest if size <= sides[-1])
    kind: torch.dtype = getattr(torch, dtype)
    timings: list[Timing | None] = []
    for small in smallest:
        for side in sides:
            timing = None if side < small else watch.time(partial(product, small, side, kind, watch.device))
            timings.append(None if timing is None else Timing(timing.seconds / 3, timing.spread))
    areas = tuple(float(side * side) for side in sides)
    return table({"smallest": floats(smallest), "others": areas}, timings)


def product(small: int, side: int, dtype: torch.dtype, device: torch.device) -> Call:
    """rows (side, side) times a weight (small, side), and the gradients of both."""
    width = dtype.itemsize * side * (side + 2 * small)

    def one() -> Call:
        rows, weight = random((side, side), dtype, device), random((small, side), dtype, device)
        gradient = random((side, small), dtype, device)

        def call() -> object:
            return F.linear(rows, weight), gradient @ weight, gradient.t() @ rows

        return call

    return in_turn([one() for _copy in range(cold_copies(width, device))])


def grouped(watch: Stopwatch, sizes: GroupSizes, dtype: str) -> Table:
    """Seconds of one group, of a product or of one of its two gradients."""
    timings: list[Timing | None] = []
    kind: torch.dtype = getattr(torch, dtype)
    for rows in sizes.rows:
        for side in sizes.sides:
            forward, backward = _ways(watch, partial(_grouped, sizes.groups, rows, side, kind, watch.device))
            spread = max(forward.spread, backward.spread)
            timings.append(Timing((forward.seconds + backward.seconds) / 3 / sizes.groups, spread))
    areas = tuple(float(side * side) for side in sizes.sides)
    return table({"rows": floats(sizes.rows), "weight": areas}, timings)


def _grouped(groups: int, rows: int, side: int, dtype: torch.dtype, device: torch.device) -> "Function":
    given = random((groups * rows, side), dtype, device)
    weights = random((groups, side, side), dtype, device)
    ends = groups_of(torch.full((groups,), rows, device=device), given, weights)
    return (given, weights), lambda inputs: grouped_product(inputs[0], inputs[1], ends)


def attention(watch: Stopwatch, sizes: HeadSizes, dtype: str) -> Attention:
    """Documents of equal length, by the kernel for any lengths and by that for equal ones."""
    kind: torch.dtype = getattr(torch, dtype)
    packed, even = (_attention_ways(watch, sizes, kind, differ=differ) for differ in (True, False))
    dim, keys = sizes.dims[-1], min(sizes.keys[0], sizes.few_rows // 2)
    few, _back = _ways(watch, partial(_attention, sizes.few_rows, 1, dim, keys, kind, watch.device, differ=True))
    filling = round(few.seconds / packed.forward.at(dim, keys))
    return Attention(packed=packed, even=even, least_rows=max(1, min(filling, sizes.rows * sizes.heads)))


def _attention_ways(watch: Stopwatch, sizes: HeadSizes, dtype: torch.dtype, *, differ: bool) -> Ways:
    """By head size and keys of a row, for one row of one head."""
    cases = [
        partial(_attention, sizes.rows, sizes.heads, dim, keys, dtype, watch.device, differ=differ)
        for dim in sizes.dims
        for keys in sizes.keys
    ]
    return _tables(
        {"head_dim": floats(sizes.dims), "keys": floats(sizes.keys)},
        [_ways(watch, case) for case in cases],
        sizes.rows * sizes.heads,
    )


def _attention(
    rows: int, heads: int, dim: int, keys: int, dtype: torch.dtype, device: torch.device, *, differ: bool
) -> "Function":
    is_causal = dim >= _CAUSAL_FROM or device.type == "cpu"
    length = min(2 * keys if is_causal else keys, rows)
    segments = Segments.build([length] * (rows // length), rows, device, differ=differ)
    given = tuple(random((rows, heads, dim), dtype, device) for _input in range(3))
    scores = Scores(causal=is_causal, scale=1 / math.sqrt(dim))
    return given, lambda inputs: attend(inputs[0], inputs[1], inputs[2], segments, scores)


def _tables(axes: dict[str, tuple[float, ...]], ways: list[tuple[Timing, Timing]], parts: int) -> Ways:
    """Tables of forwards and backwards, each divided by a number of parts."""
    forward, backward = ([Timing(each[way].seconds / parts, each[way].spread) for each in ways] for way in (0, 1))
    return Ways(forward=table(axes, forward), backward=table(axes, backward))


def scans(watch: Stopwatch, sizes: ScanSizes, dtype: str) -> Ways:
    """Convolutions, scan and skip of a Mamba-2 layer."""
    kind: torch.dtype = getattr(torch, dtype)
    ways = [_ways(watch, partial(_scan, rows, sizes, kind, watch.device)) for rows in sizes.rows]
    each = sizes.heads * sizes.head_dim * sizes.state
    return _tables({"elements": floats(tuple(rows * each for rows in sizes.rows))}, ways, 1)


def _scan(rows: int, sizes: ScanSizes, dtype: torch.dtype, device: torch.device) -> "Function":
    heads, groups, state, taps = sizes.heads, sizes.groups, sizes.state, 4
    wide = torch.promote_types(dtype, torch.float32)
    shapes = ((heads, sizes.head_dim), (groups, state), (groups, state))
    streams = [random((rows, *shape), dtype, device) for shape in shapes]
    filters = [random((*shape, taps + 1), dtype, device) / taps for shape in shapes]
    step = torch.rand(rows, heads, device=device, dtype=wide) + 0.01
    given = (*streams, step, -step, *filters, random((heads,), wide, device))
    mix, segments = MambaMix(64, groups=groups, heads=heads), Segments.build([rows], rows, device)
    return given, lambda inputs: mix(inputs, segments)


Function = tuple[tuple[Tensor, ...], Callable[[tuple[Tensor, ...]], Tensor]]
"""Inputs, and a function of them whose output has gradients."""


def _ways(watch: Stopwatch, make: Callable[[], Function]) -> tuple[Timing, Timing]:
    """The forward and the backward of a function by all of its inputs."""

    def forward() -> Call:
        given, function = make()
        inputs = tuple(tensor.requires_grad_() for tensor in given)
        return lambda: function(inputs)

    def backward() -> Call:
        given, function = make()
        inputs = tuple(tensor.requires_grad_() for tensor in given)
        out = function(inputs)
        gradient = torch.randn_like(out)
        return lambda: torch.autograd.grad(out, inputs, gradient, retain_graph=True)

    return watch.time(forward), watch.time(backward)
