"""Filling: encoders' work placed into the gaps of the pipeline, by list scheduling on an integer clock.

Rules of priority make one order each, forwards in time and backwards from the step's end; the shortest wins. Ties and
candidates are in a fixed order, so all ranks find the same.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import final

from counterpoint.plan.action import Action, Compute
from counterpoint.plan.least_time import heads
from counterpoint.plan.stages import Stages
from counterpoint.plan.step_order import actions_of
from counterpoint.plan.step_tasks import tasks_of
from counterpoint.plan.tasks import Limits, Tasks

Order = tuple[int, ...]
"""All tasks of a step, each after those that it needs."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which task a team runs when it is free.

    `ranks` name kinds of work, the most urgent first: forwards and backwards of the pipeline as F and B, those of
    encoders as f and b. Equal parts of the pipeline's teams, from those of its first stage to those of its last, each
    have one. With a `lead` what the pipeline needs within so many of its microbatches goes before all of that. Without
    ranks the task goes first from which the longest path leads to the step's end. A team begins no further task of
    several teams while one of them has yet to begin `apart` others. With `from_end` time runs backwards, so what comes
    first in it are backwards, and the order that is found is turned round.
    """

    ranks: tuple[str, ...] = ()
    lead: int | None = None
    apart: int | None = None
    from_end: bool = False


_PIPELINE_FIRST = ("BFbf",)

RULES = (
    Rule(apart=2),
    Rule(ranks=("BFfb", "FfBb", "FBfb", "bFfB"), apart=3),
    Rule(ranks=_PIPELINE_FIRST, lead=4, from_end=True),
    Rule(apart=1, from_end=True),
    Rule(ranks=_PIPELINE_FIRST, lead=1, apart=2, from_end=True),
    Rule(ranks=_PIPELINE_FIRST, lead=1, apart=1, from_end=True),
    Rule(ranks=("FfBb", "BFbf", "BFbf", "BfFb")),
    Rule(apart=4),
    Rule(ranks=_PIPELINE_FIRST, lead=2, apart=3, from_end=True),
    Rule(ranks=_PIPELINE_FIRST, lead=8, apart=3, from_end=True),
)
"""Of 1,150 rules, most of them drawn, those that together shorten steps like those of `benchmarks/filling.py` most; all
of them would make the mean step 0.2 % shorter. Where each part of the pipeline ranks its work in its own way, ranks get
out of step as a small buffer needs it."""


def fill(
    stages: Stages, microbatches: int, limits: Sequence[Limits], others: Iterable[Sequence[Action]] = ()
) -> tuple[Action, ...]:
    """A training step in the shortest order that is found under memory bounds; of equal ones that of the first bound.

    Bounds come with the tightest first. The step is no longer than any of `others` that keeps the last.
    """
    bounded = [tasks_of(stages, microbatches, limit) for limit in limits]
    tasks = bounded[-1]
    number = {action: task for task, action in enumerate(tasks.actions)}
    given = [tuple(number[action] for action in order if isinstance(action, Compute)) for order in others]
    found = [*(order for each in bounded for order in orders(each)), *given]
    shortest = min(filter(tasks.keeps, found), key=tasks.makespan)
    return actions_of(stages, microbatches, [tasks.actions[task] for task in shortest])


def orders(tasks: Tasks) -> Iterator[Order]:
    """The order of each rule."""
    backwards = tasks.reversed()
    for rule in RULES:
        yield _Player(backwards, rule).order()[::-1] if rule.from_end else _Player(tasks, rule).order()


class _Player:
    """Plays a step by a rule, task by task in time.

    The order of tasks that several teams run is the same on all of them, since they may communicate in it. So a team
    catches up with those before it runs anything that depends on work after them. What teams run together they begin
    when all of them are free: one that came early would only wait.
    """

    def __init__(self, tasks: Tasks, rule: Rule) -> None:
        self._tasks, self._rule = tasks, rule
        count = len(tasks.actions)
        self._queue_of = [0] * count
        self._place = [0] * count
        for number, queue in enumerate(tasks.queues):
            for place, task in enumerate(queue.tasks):
                self._queue_of[task], self._place[task] = number, place
        self._next = [0] * len(tasks.queues)
        self._queues_of: list[list[int]] = [[] for _team in range(tasks.num_teams)]
        for number, queue in enumerate(tasks.queues):
            for team in tasks.teams[queue.tasks[0]]:
                self._queues_of[team].append(number)
        self._reads_left = [len(reads) for reads in tasks.reads]
        self._follows_left = [len(follows) for follows in tasks.follows]
        self._parts_left = [len(teams) for teams in tasks.teams]
        # The epoch of a task is the number of tasks of several teams that an order must have up to it.
        self._epoch = [0] * count
        self._needs_epoch = [0] * count
        self._free = [0] * tasks.num_teams
        self._waiting: list[set[int]] = [set() for _task in range(count)]
        self._progress = [0] * tasks.num_teams
        self._shared: list[deque[int]] = [deque() for _team in range(tasks.num_teams)]
        self._num_shared = 0
        self._due = _due(tasks, self._place, self._queue_of)
        self._tails = [] if rule.ranks else heads(tasks.reversed())
        self._ranks = _ranks(tasks, rule.ranks)
        self._begun: list[int] = []
        self._now = 0

    def order(self) -> Order:
        """All tasks in an order that every team follows."""
        events: list[tuple[int, int, int]] = []
        wake = set(range(self._tasks.num_teams))
        while True:
            while wake:
                awake = sorted(wake)
                wake.clear()
                for team in awake:
                    if self._free[team] <= self._now and (task := self._choose(team)) is not None:
                        wake.update(self._begin(task, team, events))
            if not events:
                break
            self._now = events[0][0]
            while events and events[0][0] == self._now:
                _time, team, task = heappop(events)
                wake.add(team)
                self._parts_left[task] -= 1
                if not self._parts_left[task]:
                    wake.update(self._complete(task))
        assert len(self._begun) == len(self._tasks.actions), "a step without cycles always has a task to run"
        epochs = self._epoch
        return tuple(sorted(self._begun, key=lambda task: epochs[task]))

    def _choose(self, team: int) -> int | None:
        """The most urgent task that a team can run now."""
        tasks, shared = self._tasks, self._shared[team]
        owed = shared[0] if shared else None
        if owed in tasks.together:
            # Others wait for this team.
            return owed
        best: tuple[tuple[int, ...], int] | None = None
        for number in self._queues_of[team]:
            queue, place = tasks.queues[number], self._next[number]
            if place == len(queue.tasks):
                continue
            task = queue.tasks[place]
            if self._reads_left[task] or self._follows_left[task]:
                continue
            key = self._urgency(task, number, team)
            is_shared = len(tasks.teams[task]) > 1
            if is_shared and key[0] != _DUE and self._is_far(task):
                continue
            if task in tasks.together and not all(map(self._is_free, self._partners(task, team))):
                continue
            if owed is not None:
                if is_shared:
                    continue
                if self._needs_epoch[task] >= self._epoch[owed]:
                    task = owed
            if best is None or key < best[0]:
                best = key, task
        if owed is not None:
            key = self._urgency(owed, self._queue_of[owed], team)
            if best is None or key < best[0]:
                best = key, owed
        return None if best is None else best[1]

    def _partners(self, task: int, team: int) -> tuple[int, ...]:
        """The teams that begin their parts of a task at once with a team's, that team among them."""
        return next((group for group in self._tasks.together.get(task, ()) if team in group), (team,))

    def _is_free(self, team: int) -> bool:
        return self._free[team] <= self._now and not self._shared[team]

    def _is_far(self, task: int) -> bool:
        """Whether other teams have yet to begin as many shared tasks as a rule allows."""
        most = self._rule.apart
        return most is not None and any(len(self._shared[team]) >= most for team in self._tasks.teams[task])

    def _urgency(self, task: int, number: int, team: int) -> tuple[int, ...]:
        """What of several tasks the least of goes first on a team."""
        due, lead = self._due[task], self._rule.lead
        if not self._rule.ranks:
            return 0, -self._tails[task], number
        if lead is not None and due is not None and due[1] - self._next[due[0]] <= lead:
            return _DUE, due[1], number
        return self._ranks[team][number], number

    def _begin(self, task: int, team: int, events: list[tuple[int, int, int]]) -> Iterable[int]:
        """Begin a team's part of a task; returns the teams that may have something to run now."""
        tasks, wake = self._tasks, list[int]()
        teams, is_new = tasks.teams[task], not (self._shared[team] and self._shared[team][0] == task)
        if is_new:
            number = self._queue_of[task]
            self._next[number] += 1
            self._begun.append(task)
            if len(teams) > 1:
                self._num_shared += 1
                self._epoch[task] = self._num_shared
                for other in teams:
                    self._shared[other].append(task)
                wake += teams
            else:
                self._epoch[task] = max(self._needs_epoch[task], self._progress[team])
            for other in tasks.followers[task]:
                self._follows_left[other] -= 1
                wake += tasks.teams[other]
            for other in (*tasks.readers[task], *tasks.followers[task]):
                self._needs_epoch[other] = max(self._needs_epoch[other], self._epoch[task])
            wake += teams
        if len(teams) > 1:
            self._shared[team].popleft()
        self._progress[team] = max(self._progress[team], self._epoch[task])
        partners = self._partners(task, team)
        self._waiting[task].add(team)
        self._free[team] = _NEVER
        if self._waiting[task].issuperset(partners):
            for partner in partners:
                self._free[partner] = self._now + tasks.units[task]
                heappush(events, (self._free[partner], partner, task))
        return wake

    def _complete(self, task: int) -> Iterable[int]:
        """Note that a task's results are there; returns the teams that may have something to run now."""
        tasks, wake = self._tasks, list[int]()
        for other in tasks.readers[task]:
            self._reads_left[other] -= 1
            if not self._reads_left[other]:
                wake += tasks.teams[other]
        return wake


_DUE = -1
"""Before all ranks."""

_NEVER = 2**62


def _ranks(tasks: Tasks, ranks: Sequence[str]) -> list[list[int]]:
    """By team and queue the rank of its kind of work in the team's part of the pipeline; teams outside are of the
    first part."""
    if not ranks:
        return []
    sinks = [queue for queue in tasks.queues if queue.is_sink]
    place = {team: 0 for team in range(tasks.num_teams)}
    inside = dict.fromkeys(team for queue in sinks for team in tasks.teams[queue.tasks[0]])
    place |= {team: number * len(ranks) // len(inside) for number, team in enumerate(inside)}
    kinds = [("FB" if queue.is_sink else "fb")[not queue.is_first] for queue in tasks.queues]
    return [[ranks[place[team]].index(kind) for kind in kinds] for team in range(tasks.num_teams)]


def _due(tasks: Tasks, place: Sequence[int], queue_of: Sequence[int]) -> list[tuple[int, int] | None]:
    """For each task of an encoder the queue of the pipeline that needs it first, and at which place."""
    due: list[tuple[int, int] | None] = [None] * len(tasks.actions)
    left = [len(a) + len(b) for a, b in zip(tasks.readers, tasks.followers, strict=True)]
    ready = [task for task, count in enumerate(left) if not count]
    while ready:
        task = ready.pop()
        if not tasks.queues[queue_of[task]].is_sink:
            for other in (*tasks.readers[task], *tasks.followers[task]):
                found = (queue_of[other], place[other]) if tasks.queues[queue_of[other]].is_sink else due[other]
                mine = due[task]
                if found is not None and (mine is None or found[1] < mine[1]):
                    due[task] = found
        for other in (*tasks.reads[task], *tasks.follows[task]):
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    return due
