"""Devices behind their hosts, beside a host that launches kernel by kernel."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.simulate.hosts import QUEUE, Hosts, Launches

Task = tuple[int, float, float, float]
"""Kernels of a compute, the host's seconds for it, the device's, and for how long the device waits for rows before."""

TASKS = st.lists(
    st.tuples(st.integers(1, 1500), st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.sampled_from([0.0, 0.0, 0.7])),
    min_size=1, max_size=10,
)  # fmt: skip


def _computes(tasks: Sequence[Task]) -> list[Compute]:
    return [Compute(Node("a", 0), Work.FORWARD, number) for number in range(len(tasks))]


def _ends(tasks: Sequence[Task], steps: int, rest: float) -> list[list[float]]:
    """When each compute of each step ends, counted from the step's begin; the host takes a rest after each step."""
    hosts = Hosts(lambda _rank, action: Launches(tasks[action.microbatch][1], tasks[action.microbatch][0]))
    found: list[list[float]] = []
    for _step in range(steps):
        now, ends = 0.0, list[float]()
        for action, (_kernels, _host, device, waits) in zip(_computes(tasks), tasks, strict=True):
            now = hosts.end(0, action, now + waits, device)
            ends.append(now)
        found.append(ends)
        hosts = hosts.next_step(now, lambda _rank: rest)
    return found


def _kernel_by_kernel(tasks: Sequence[Task], steps: int, rest: float) -> list[list[float]]:
    """The same, launched and run one kernel after the other."""
    done, found, begins = list[float](), list[list[float]](), [0.0]
    launched = device = 0.0
    for step in range(steps):
        # A step is launched once the one before the last has ended.
        launched, ends = max(launched, begins[max(0, step - 1)]), list[float]()
        for kernels, host, seconds, waits in tasks:
            device += waits
            for _kernel in range(kernels):
                full = done[len(done) - QUEUE] if len(done) >= QUEUE else 0.0
                launched = max(launched, full) + host / kernels
                device = max(device, launched) + seconds / kernels
                done.append(device)
            ends.append(device - begins[-1])
        found.append(ends)
        launched += rest
        begins.append(device)
    return found


@given(TASKS, st.sampled_from([0.0, 1.5]))
@settings(deadline=None, max_examples=200)
def test_a_device_is_as_late_as_if_every_kernel_were_launched(tasks: list[Task], rest: float) -> None:
    """In steps that follow each other, up to what a few kernels take: those of a compute are spread evenly over it."""
    few = 4.0 * len(tasks) * max(max(host, device) / kernels for kernels, host, device, _waits in tasks) + 1e-9
    for found, exact in zip(_ends(tasks, 3, rest), _kernel_by_kernel(tasks, 3, rest), strict=True):
        assert found == pytest.approx(exact, abs=few)


@given(TASKS, st.integers(0, 9), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=200)
def test_more_work_of_a_host_or_a_device_makes_nothing_earlier(tasks: list[Task], where: int, what: int) -> None:
    more = list(tasks)
    longer = list(more[where % len(tasks)])
    longer[what] += 1.0
    more[where % len(tasks)] = (int(longer[0]), longer[1], longer[2], longer[3])
    pairs = zip(_ends(tasks, 1, 0.0)[0], _ends(more, 1, 0.0)[0], strict=True)
    assert all(before <= after + 1e-9 for before, after in pairs)


def test_a_long_compute_does_not_help_what_comes_behind_the_queue() -> None:
    """A host runs ahead by a queue: of three short computes behind a long one, all are queued, or one, or none."""
    short, long = (500, 1.0, 0.01, 0.0), (500, 1.0, 100.0, 0.0)
    _first, ends = _ends([long, short, short, short, short], 2, 0.0)
    lengths = [after - before for before, after in pairwise([0.0, *ends])]
    assert lengths[1] == pytest.approx(0.01)
    assert lengths[2] == pytest.approx(0.01)
    # Of the third 24 kernels fit.
    assert lengths[3] == pytest.approx(1.0, abs=0.1)
    assert lengths[4] == pytest.approx(1.0, abs=0.1)


def test_a_device_alone_takes_what_its_computes_take() -> None:
    assert _ends([(10, 0.0, 2.0, 0.0), (2000, 0.0, 3.0, 1.0)], 2, 0.0) == [[2.0, 6.0], [2.0, 6.0]]


def test_what_a_queue_does_not_hold_is_launched_as_it_runs() -> None:
    """A compute of two queues' kernels ends ten seconds after its begin. Its last kernel was launched half of that
    before, so a host that then does something else for eight is three seconds late for the next step."""
    many = (2 * QUEUE, 0.1, 10.0, 0.0)
    assert _ends([many], 2, 8.0)[1][0] == pytest.approx(13.0, abs=0.1)


def test_a_step_begins_with_its_host_no_further_ahead_than_a_step() -> None:
    """A host that takes as long as its device is never more than one step ahead of it."""
    even = [(100, 1.0, 1.0, 0.0)] * 3
    assert _ends(even, 4, 0.0) == [pytest.approx([1.0, 2.0, 3.0], abs=0.05)] * 4
