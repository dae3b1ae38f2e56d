"""Play programs by roles, with as few of them as give the time of every rank."""

from collections.abc import Iterable
from dataclasses import dataclass

from counterpoint.check.contacts import contacts_of
from counterpoint.check.events import Collective, Programs
from counterpoint.check.machine import Cost, Durations, Machine, State
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import Roles, coarse, refine
from counterpoint.plan.action import Compute
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan

MOST_ROLES = 128
"""Roles above which they are not refined any more."""


@dataclass(frozen=True, slots=True)
class Played:
    """A machine that has played roles. If it `is_exact`, its times are those of every rank of a role; else no rank is
    later than they say."""

    machine: Machine
    roles: Roles
    is_exact: bool


def play_roles(
    plan: Plan,
    programs: Programs,
    cost: Cost,
    durations: Durations,
    batch: BatchPlan | None = None,
    *,
    is_even: bool = False,
) -> Played:
    """Play the fewest roles; while ranks of some may be earlier than these, refine those and play again.

    A role waits for all that any of its ranks waits for, and its computes cost what they do on its costliest rank, so
    it is never early. Where lanes cost differently, or a batch brings together only some ranks that may meet, the
    fewest roles are a bound and are left at that. With `is_even` a compute costs the same on all ranks.
    """
    roles = coarse(plan, programs)
    while True:
        heaviest = Heaviest(plan, roles, cost, is_even=is_even)
        events = expand_roles(plan, programs, roles, batch, batch, is_template=False)
        machine = Machine(events, heaviest, durations)
        if machine.stuck or batch is not None or not heaviest.is_alike:
            return Played(machine, roles, is_exact=False)
        early = early_roles(plan, roles, machine)
        if not early or len(roles.by_role) > MOST_ROLES:
            return Played(machine, roles, not early)
        roles = refine(plan, roles, early)


class Heaviest:
    """Costs of roles: those on their costliest rank. `is_alike` says whether all costs so far were the same on all.

    The ranks of a lane cost alike, so one of each is asked.
    """

    def __init__(self, plan: Plan, roles: Roles, cost: Cost, *, is_even: bool) -> None:
        self._plan, self._roles, self._cost, self._is_even = plan, roles, cost, is_even
        self._asked: dict[tuple[int, str], tuple[int, ...]] = {}
        self.is_alike = True

    def __call__(self, role: int, action: Compute) -> float:
        if self._is_even:
            return self._cost(role, action)
        key = role, action.node.module
        if key not in self._asked:
            layout = self._plan.layouts[action.node.module]
            lanes = {layout.coordinate(rank).dp: rank for rank in reversed(self._roles.ranks(role))}
            self._asked[key] = tuple(lanes.values())
        costs = [self._cost(rank, action) for rank in self._asked[key]]
        most = max(costs)
        self.is_alike &= most == min(costs)
        return most


def early_roles(plan: Plan, roles: Roles, machine: Machine) -> frozenset[int]:
    """The roles that have a post which would complete earlier on one of their ranks, if that waited for its own peers.

    If there are none, the times of roles solve the equations of the ranks' times, whose solution is unique.
    """
    met = _Met(plan, roles)
    return frozenset(
        role
        for role, states in machine.states.items()
        if any(
            _end(machine, state, others) != state.completed
            for state in states.values()
            for others in met.by(role, state)
        )
    )


def _end(machine: Machine, state: State, roles: Iterable[int]) -> float:
    """When a post of these roles, its own included, would complete."""
    key = state.post.entry
    every = [machine.states[role][key] for role in roles]
    starts = max(part.started or 0.0 for part in every)
    waiting = every if isinstance(state.post, Collective) else [state]
    return starts + max(machine.durations(part.rank, part.post) for part in waiting)


class _Met:
    """The sets of roles that the ranks of a role meet at a post, where these are not the same for all of them."""

    def __init__(self, plan: Plan, roles: Roles) -> None:
        self._contacts, self._roles = contacts_of(plan), roles
        self._sets: dict[int, frozenset[int]] = {}
        self._known: dict[tuple[int, object], tuple[frozenset[int], ...]] = {}

    def by(self, role: int, state: State) -> tuple[frozenset[int], ...]:
        """None if all ranks of the role meet all roles that the role meets."""
        post = state.post
        if isinstance(post, Collective):
            key: object = post.communicator
        else:
            key = post.action.link, post.action.direction, post.round
        if (role, key) not in self._known:
            places, of = self._places(role, state), self._contacts.of
            contacts = {tuple(of[rank][place][0] for place in places) for rank in self._roles.ranks(role)}
            found = {frozenset[int]().union(*map(self._roles_of, numbers)) | {role} for numbers in contacts}
            whole = frozenset(post.ranks) if isinstance(post, Collective) else state.peers | {role}
            self._known[role, key] = tuple(found - {whole})
        return self._known[role, key]

    def _places(self, role: int, state: State) -> list[int]:
        kind, post = self._contacts.kinds[role], state.post
        if isinstance(post, Collective):
            return [kind.slots.names.index(post.communicator)]
        first = len(kind.slots.names)
        return [
            first + number
            for number, meeting in enumerate(kind.meetings)
            if self._contacts.links[meeting.link] == post.action.link and meeting.round == post.round
        ]

    def _roles_of(self, number: int) -> frozenset[int]:
        if number not in self._sets:
            parts = self._contacts.sets[number]
            self._sets[number] = frozenset(self._roles.role(rank) for part in parts for rank in part)
        return self._sets[number]
