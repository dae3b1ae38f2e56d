"""A step's compute actions as tasks on an integer clock: what each needs, how long it takes, and who runs it.

A *team* is the ranks that share all their seats, so they have the same program and the clock plays them as one. A task
that several teams run starts on each of them when that team is free, unless they communicate in it; its results are
there when the last team ends. Where only some ranks of two teams communicate, the clock lets all of them wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

from counterpoint.plan.action import Compute
from counterpoint.plan.graph import Node


class Limits(NamedTuple):
    """The memory bound: the most microbatches kept by each node, or by all chunks of a seat together.

    A seat is named by its first node. Its bound holds for its chunks with a backward together, and for each of the
    others, and takes the place of those of its nodes. None means any number. A microbatch is kept from its
    forward to the last action of its backward or, without a backward, to the forwards that read its rows.
    """

    nodes: Mapping[Node, int]
    seats: Mapping[Node, int]


Teams = tuple[tuple[int, ...], ...]
"""Groups of teams, in the order in which they meet."""


class Queue(NamedTuple):
    """One kind of work of a seat, as tasks in the order in which every team of the seat runs them."""

    tasks: tuple[int, ...]
    is_sink: bool
    is_first: bool


class Post(NamedTuple):
    """A transfer: the channel on which it waits for earlier ones, and the teams at its ends."""

    channel: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks by number: their action, cost, and teams.

    `reads` are the tasks whose results a task needs. `follows` are those that each of its teams must have begun before
    it: earlier work of the same seat on its microbatch, and what the memory bound wants done. `readers` and `followers`
    are the same arcs the other way round. In `queues` every task is once. `gives` and `takes` are the numbers of the
    transfers in `posts` that follow a task and that it waits for; tasks in `meets_before` and `meets_after` begin, or
    end, on all teams of a group at once. Of these `together` has the tasks of nodes whose every task does so, with
    groups that share no team.
    """

    actions: tuple[Compute, ...]
    units: tuple[int, ...]
    teams: tuple[tuple[int, ...], ...]
    num_teams: int
    reads: tuple[tuple[int, ...], ...]
    follows: tuple[tuple[int, ...], ...]
    readers: tuple[tuple[int, ...], ...]
    followers: tuple[tuple[int, ...], ...]
    queues: tuple[Queue, ...]
    posts: tuple[Post, ...]
    gives: tuple[tuple[int, ...], ...]
    takes: tuple[tuple[int, ...], ...]
    meets_before: Mapping[int, Teams]
    meets_after: Mapping[int, Teams]
    together: Mapping[int, Teams]

    def reversed(self) -> "Tasks":
        """The same step played from its end: what was read reads, and queues run backwards. It has no transfers."""
        return replace(
            self,
            reads=self.readers,
            follows=self.followers,
            readers=self.reads,
            followers=self.follows,
            queues=tuple(Queue(queue.tasks[::-1], queue.is_sink, not queue.is_first) for queue in self.queues),
            posts=(),
            gives=((),) * len(self.actions),
            takes=((),) * len(self.actions),
        )

    def makespan(self, order: Sequence[int]) -> int:
        """The time at which the last team ends if every team runs its tasks in this order, as early as it can.

        Teams wait for each other where `meets_before` and `meets_after` say so. A transfer is posted when the tasks
        before it in the order are done, and served after those before it on its channel.
        """
        free = [0] * self.num_teams
        served: dict[tuple[int, int], int] = {}
        arrived: dict[tuple[int, int], int] = {}
        for task in order:
            cost, teams = self.units[task], self.teams[task]
            for team in teams:
                free[team] = max(free[team], *(arrived[post, team] for post in self.takes[task]), 0)
            _meet(free, self.meets_before.get(task, ()))
            for team in teams:
                free[team] += cost
            _meet(free, self.meets_after.get(task, ()))
            for number in self.gives[task]:
                post = self.posts[number]
                members = (*post.sources, *post.targets)
                starts = {team: max(free[team], served.get((post.channel, team), 0)) for team in members}
                sent, received = (max(starts[team] for team in of) for of in (post.sources, post.targets))
                for team, start in starts.items():
                    met = max(sent if team in post.targets else 0, received if team in post.sources else 0)
                    served[post.channel, team] = arrived[number, team] = max(start, met)
        return max(free, default=0)

    def keeps(self, order: Sequence[int]) -> bool:
        """Whether an order has every task after those it follows, so that it keeps the memory bound."""
        place = [0] * len(self.actions)
        for number, task in enumerate(order):
            place[task] = number
        return all(place[before] < place[task] for task in order for before in self.follows[task])


def _meet(free: list[int], groups: Teams) -> None:
    """Let the teams of each group wait for the last of them."""
    for group in groups:
        latest = max(free[team] for team in group)
        for team in group:
            free[team] = latest
