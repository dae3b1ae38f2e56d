"""Where the time of a step goes on one GPU, from the profiler's raw events: pure interval arithmetic."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MARKER = "spin_kernel"
"""The kernel of `torch.cuda._sleep`, which nothing else launches: it stands before a step and behind the last."""

_COPIES = ("Memcpy", "Memset")

_GAPS = 12
"""Gaps of a step that are told, the longest."""

Interval = tuple[int, int]
"""Start and stop in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Span:
    """One event of the profiler, in nanoseconds."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One step on one GPU, in seconds.

    `compute` is the time in which a kernel other than NCCL's runs, `nccl` that of NCCL's; `exposed` is the part of the
    latter in which nothing else runs, `exposed_transfers` that of sends and receives; in `idle` nothing runs at all.
    `kernels` counts those other than NCCL's. `table` has (seconds, count, name) of each kernel, the longest first, and
    `gaps` (seconds, start of the gap in seconds, what ran before, what ran behind) where no kernel but NCCL's runs.
    `moves` are (seconds, start in seconds) of each send and receive, in order: on a rank that others wait for it lasts
    as long as its bytes travel, on the others it holds the wait as well.
    """

    window: float
    compute: float
    nccl: float
    exposed: float
    exposed_transfers: float
    idle: float
    kernels: int
    nccl_kernels: int
    table: tuple[tuple[float, int, str], ...]
    gaps: tuple[tuple[float, float, str, str], ...]
    moves: tuple[tuple[float, float], ...]


def step_breakdown(device: Sequence[Span]) -> Breakdown | None:
    """The last step between two markers; None without them."""
    markers = sorted((span.start, span.stop) for span in device if MARKER in span.name)
    if len(markers) < 2:
        return None
    first, last = markers[-2][1], markers[-1][0]
    inside = [
        Span(span.name, max(span.start, first), min(span.stop, last))
        for span in device
        if MARKER not in span.name and span.start < last and span.stop > first
    ]
    nccl = [span for span in inside if "nccl" in span.name.lower()]
    others = [span for span in inside if "nccl" not in span.name.lower()]
    compute = [span for span in others if not span.name.startswith(_COPIES)]
    covered, communication = _times(others), _times(nccl)
    moves = sorted((span.start, span.stop) for span in nccl if "sendrecv" in span.name.lower())
    transfers = union(moves)
    return Breakdown(
        window=(last - first) / 1e9,
        compute=seconds(_times(compute)),
        nccl=seconds(communication),
        exposed=seconds(without(communication, covered)),
        exposed_transfers=seconds(without(transfers, covered)),
        idle=(last - first) / 1e9 - seconds(_times(inside)),
        kernels=len(compute),
        nccl_kernels=len(nccl),
        table=_table(inside),
        gaps=_gaps(others, (first, last)),
        moves=tuple(((stop - start) / 1e9, (start - first) / 1e9) for start, stop in moves),
    )


def host_synchronisations(host: Sequence[Span], steps: int) -> dict[str, float]:
    """Calls a step in which the host waits for the device, by name, from the runtime's calls of so many steps.

    What comes behind the last launch, the closing marker's, is the profiler's own.
    """
    launches = [span.start for span in host if "Launch" in span.name]
    last = max(launches, default=0)
    waits = Counter(span.name for span in host if span.start < last and _waits(span.name))
    return {name: count / steps for name, count in sorted(waits.items())}


def spans_of(events: Iterable[Any], on_device: bool, device_type: Any) -> list[Span]:
    """The profiler's raw (Kineto) events of the device, or those of the host."""
    return [
        Span(event.name(), event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if (event.device_type() == device_type) is on_device
    ]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times as intervals that do not meet, in order."""
    merged: list[Interval] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return merged


def without(intervals: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """The times of `intervals` that are not in `holes`; each is a union."""
    left: list[Interval] = []
    at = 0
    for start, stop in intervals:
        while at < len(holes) and holes[at][1] <= start:
            at += 1
        place, here = start, at
        while here < len(holes) and holes[here][0] < stop:
            if holes[here][0] > place:
                left.append((place, holes[here][0]))
            place = max(place, holes[here][1])
            here += 1
        if place < stop:
            left.append((place, stop))
    return left


def seconds(intervals: Iterable[Interval]) -> float:
    """The length of a union."""
    return sum(stop - start for start, stop in intervals) / 1e9


def _times(spans: Iterable[Span]) -> list[Interval]:
    return union((span.start, span.stop) for span in spans)


def _table(spans: Sequence[Span]) -> tuple[tuple[float, int, str], ...]:
    time, count = Counter[str](), Counter[str]()
    for span in spans:
        time[span.name] += span.stop - span.start
        count[span.name] += 1
    return tuple((total / 1e9, count[name], name) for name, total in time.most_common())


def _gaps(spans: Sequence[Span], window: Interval) -> tuple[tuple[float, float, str, str], ...]:
    """The longest times of a window in which none of the spans runs, each with its neighbours."""
    begin, _end = window
    ends = {span.stop: span.name for span in sorted(spans, key=lambda span: span.start)}
    starts = {span.start: span.name for span in sorted(spans, key=lambda span: -span.stop)}
    found = [
        ((b - a) / 1e9, (a - begin) / 1e9, ends.get(a, "the step's start"), starts.get(b, "the step's end"))
        for a, b in without([window], _times(spans))
    ]
    return tuple(sorted(found, reverse=True)[:_GAPS])


def _waits(name: str) -> bool:
    return "Synchronize" in name or name in ("cudaMemcpy", "cudaMemcpy2D")
