"""Where the time of a step goes: interval arithmetic against a brute count, and a step drawn by hand."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.breakdown import MARKER, Span, host_synchronisations, step_breakdown, union, without

INTERVALS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], sum(pair))))


def _ticks(intervals: list[tuple[int, int]]) -> set[int]:
    return {tick for start, stop in intervals for tick in range(start, stop)}


@given(INTERVALS, INTERVALS)
def test_unions_and_differences_are_those_of_sets(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    a, b = union(first), union(second)
    assert _ticks(a) == _ticks(first)
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(a))
    left = without(a, b)
    assert _ticks(left) == _ticks(first) - _ticks(second)
    assert sum(stop - start for start, stop in left) == len(_ticks(left))


def test_a_step_is_what_lies_between_the_last_two_markers() -> None:
    spans = [
        Span(MARKER, 0, 10), Span("gemm", 10, 900), Span(MARKER, 1000, 1010),
        Span("gemm", 1010, 1100), Span("gemm", 1150, 1200), Span("ncclDevKernel_AllGather_RING_LL", 1050, 1120),
        Span("ncclDevKernel_SendRecv", 1190, 1230), Span("Memcpy DtoD", 1225, 1240), Span(MARKER, 1300, 1310),
        Span("gemm", 1310, 1400),
    ]  # fmt: skip
    step = step_breakdown(spans)
    assert step is not None
    nanoseconds = {name: round(getattr(step, name) * 1e9) for name in ("window", "compute", "nccl", "exposed", "idle")}
    assert nanoseconds == {"window": 290, "compute": 140, "nccl": 110, "exposed": 45, "idle": 90}
    assert round(step.exposed_transfers * 1e9) == 25
    assert (step.kernels, step.nccl_kernels) == (2, 2)
    seconds, calls, kernel = step.table[0]
    assert seconds == pytest.approx(140e-9)
    assert (calls, kernel) == (2, "gemm")
    gaps = [(round(length * 1e9), round(at * 1e9), *between) for length, at, *between in step.gaps]
    end = (60, 230, "Memcpy DtoD", "the step's end")
    assert [(round(length * 1e9), round(at * 1e9)) for length, at in step.moves] == [(40, 180)]
    assert gaps == [end, (50, 90, "gemm", "gemm"), (25, 190, "gemm", "Memcpy DtoD")]


def test_without_markers_nothing_is_known() -> None:
    assert step_breakdown([Span("gemm", 0, 1)]) is None


def test_waits_behind_the_last_launch_are_the_profilers_own() -> None:
    host = [
        Span("cudaLaunchKernel", 0, 1), Span("cudaStreamSynchronize", 2, 5), Span("cudaMemcpyAsync", 5, 6),
        Span("cudaStreamSynchronize", 8, 9), Span("cudaLaunchKernel", 10, 11), Span("cudaDeviceSynchronize", 12, 13),
    ]  # fmt: skip
    assert host_synchronisations(host, steps=2) == {"cudaStreamSynchronize": 1.0}
