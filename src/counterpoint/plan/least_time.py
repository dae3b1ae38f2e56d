"""A lower bound of a step's time: no order of its tasks, whatever makes it, ends earlier on the same clock.

The argument, for orders in which each seat takes its microbatches in order and keeps the memory bound:

- A part of a task on a team cannot begin before its *head*: the longest path of costs to it over tasks whose results it
  reads, and over those that each of its teams runs before it, the memory bound's included. After its end at least its
  *tail* remains: the longest path from it, by the same argument.
- A team runs one task at a time. So for any set of its tasks the step takes at least the smallest head, the sum of the
  costs, and the smallest tail of the set. The largest such sum over all sets is the length of Jackson's preemptive
  schedule: at any time the released task with the longest tail runs (Carlier 1982, The one-machine sequencing problem).
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

from counterpoint.plan.tasks import Tasks


def least_time(tasks: Tasks) -> int:
    """The bound, in the units of the tasks."""
    earliest, remaining = heads(tasks), heads(tasks.reversed())
    mine: list[list[int]] = [[] for _team in range(tasks.num_teams)]
    for task, teams in enumerate(tasks.teams):
        for team in teams:
            mine[team].append(task)
    return max((jackson((earliest[t], tasks.units[t], remaining[t]) for t in own) for own in mine), default=0)


def jackson(jobs: Iterable[tuple[int, int, int]]) -> int:
    """The least time of jobs (head, cost, tail) on one machine that may interrupt them."""
    waiting: list[tuple[int, int]] = []
    now = longest = 0
    queue = sorted(jobs)
    place = 0
    while waiting or place < len(queue):
        if not waiting:
            now = max(now, queue[place][0])
        while place < len(queue) and queue[place][0] <= now:
            _head, cost, tail = queue[place]
            heappush(waiting, (-tail, cost))
            place += 1
        tail, cost = heappop(waiting)
        runs = min(cost, queue[place][0] - now) if place < len(queue) else cost
        now += runs
        if runs < cost:
            heappush(waiting, (tail, cost - runs))
        longest = max(longest, now - tail)
    return longest


def heads(tasks: Tasks) -> list[int]:
    """The earliest time at which any part of each task can begin: the longest path to it."""
    before = _before(tasks)
    found = [0] * len(before)
    for task in _sorted(before):
        found[task] = max((found[other] + tasks.units[other] for other in before[task]), default=0)
    return found


def _before(tasks: Tasks) -> list[tuple[int, ...]]:
    """For each task those that end before any part of it begins, or on each of its teams before its part does."""
    before = [set(reads) for reads in tasks.reads]
    for task, others in _in_order(tasks):
        before[task].update(other for other in others if tasks.teams[other] == tasks.teams[task])
    return [tuple(others) for others in before]


def _in_order(tasks: Tasks) -> Iterator[tuple[int, Sequence[int]]]:
    yield from enumerate(tasks.follows)
    for queue in tasks.queues:
        yield from ((task, (other,)) for other, task in zip(queue.tasks, queue.tasks[1:]))


def _sorted(before: Sequence[Sequence[int]]) -> Iterator[int]:
    """Tasks, each after those before it."""
    after: list[list[int]] = [[] for _task in before]
    for task, others in enumerate(before):
        for other in others:
            after[other].append(task)
    left = [len(others) for others in before]
    ready = [task for task, count in enumerate(left) if not count]
    while ready:
        task = ready.pop()
        yield task
        for other in after[task]:
            left[other] -= 1
            if not left[other]:
                ready.append(other)
