"""The timeline of an estimate as a trace that Perfetto and Chrome read: roles as threads, memory as counters.

The format is that of Chrome's trace events (JSON); times are microseconds.
"""

from collections.abc import Iterator
from typing import Any

from counterpoint.plan.layout import format_ranks
from counterpoint.simulate.estimate import Estimate

_MICROSECONDS = 1e6
_PROCESS = 1


def trace_of(found: Estimate) -> dict[str, Any]:
    """The trace of the first step: actions as slices, transfers and collectives as slices beside them."""
    return {
        "displayTimeUnit": "ms",
        "otherData": {"hardware": found.hardware, "source": found.source, "seconds": found.seconds},
        "traceEvents": list(_events(found)),
    }


def _events(found: Estimate) -> Iterator[dict[str, Any]]:
    timeline = found.timeline
    yield _named("process_name", 0, f"a step on {found.hardware} ({found.source})")
    for thread, ranks in enumerate(timeline.same, start=1):
        rank, words = ranks[0], format_ranks(ranks)
        yield _named("thread_name", thread, f"ranks {words}" if len(ranks) > 1 else f"rank {words}")
        yield _named("thread_sort_index", thread, thread)
        if timeline.updated[rank]:
            yield _slice(thread, "S (update of the step before)", 0.0, timeline.updated[rank], "optimizer")
        for one in timeline.computes[rank]:
            yield _slice(thread, str(one.action), one.start, one.end, one.action.node.module)
        for number, post in enumerate(timeline.posts[rank]):
            if post.ended > post.posted:
                what = {"communicator": post.communicator, "waited": post.started - post.posted, "took": post.seconds}
                yield from _asynchronous(thread, f"{thread}.{number}", str(post.action), post.posted, post.ended, what)
        for seconds, size in timeline.memory[rank].steps:
            yield {
                "ph": "C", "pid": _PROCESS, "tid": thread, "name": f"memory of {words}",
                "ts": seconds * _MICROSECONDS, "args": {"bytes": size},
            }  # fmt: skip


def _named(what: str, thread: int, value: object) -> dict[str, Any]:
    key = "sort_index" if what == "thread_sort_index" else "name"
    return {"ph": "M", "pid": _PROCESS, "tid": thread, "name": what, "args": {key: value}}


def _slice(thread: int, name: str, start: float, end: float, category: str) -> dict[str, Any]:
    return {
        "ph": "X", "pid": _PROCESS, "tid": thread, "name": name, "cat": category,
        "ts": start * _MICROSECONDS, "dur": (end - start) * _MICROSECONDS,
    }  # fmt: skip


def _asynchronous(
    thread: int, key: str, name: str, start: float, end: float, what: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Slices that may overlap others of their thread."""
    for phase, seconds in (("b", start), ("e", end)):
        yield {
            "ph": phase, "pid": _PROCESS, "tid": thread, "id": key, "name": name, "cat": "communication",
            "ts": seconds * _MICROSECONDS, "args": what if phase == "b" else {},
        }  # fmt: skip
