"""A step by roles: events of one rank of each, the heaviest lanes of which count, and what it takes to price them."""

from collections.abc import Mapping
from functools import cached_property
from typing import final

from counterpoint.check.events import Collective, Events, Exchange, Programs, expand
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import Roles, coarse
from counterpoint.plan.action import Action, Compute
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan

EXACT_RANKS = 64
"""Ranks up to which every rank is played by itself: their lanes have different loads."""


@final
class Cast:
    """Who plays a step: every rank for itself or, in a large world, the lowest rank of each role.

    A role computes what the heaviest lane of its ranks does, by FLOPs, so it is never early.
    """

    def __init__(self, plan: Plan, programs: Programs, batch: BatchPlan) -> None:
        self._plan, self._programs, self._batch = plan, programs, batch
        self.roles: Roles | None = coarse(plan, programs) if len(programs) > EXACT_RANKS else None
        self._heaviest: dict[tuple[int, str, int], int] = {}

    @cached_property
    def programs(self) -> Mapping[int, tuple[Action, ...]]:
        """The program of each player."""
        return self._programs if self.roles is None else self.roles.programs(self._programs)

    @cached_property
    def events(self) -> Events:
        """The events of each player."""
        if self.roles is None:
            return expand(self._plan, self._programs, self._batch, self._batch)
        return expand_roles(self._plan, self._programs, self.roles, self._batch, self._batch, is_template=False)

    def ranks(self, player: int) -> tuple[int, ...]:
        """The ranks that a player stands for."""
        return (player,) if self.roles is None else self.roles.ranks(player)

    def payer(self, player: int, action: Compute) -> int:
        """The rank of a player whose lane is the heaviest in the microbatch of an action."""
        if self.roles is None:
            return player
        module, microbatch = action.node.module, action.microbatch
        key = player, module, microbatch
        if key not in self._heaviest:
            layout, shares = self._plan.layouts[module], self._batch.shares[module][microbatch]
            cost = self._plan.facts[module].cost
            lanes = {layout.coordinate(rank).dp: rank for rank in reversed(self.roles.ranks(player))}
            loads = {lane: sum(cost.of_each(shares.lengths(lane))) for lane in lanes}
            self._heaviest[key] = lanes[max(lanes, key=lambda lane: (loads[lane], -lane))]
        return self._heaviest[key]

    def members(self, player: int, post: Collective) -> tuple[int, ...]:
        """The ranks of a collective that a player's rank takes part in."""
        return post.ranks if self.roles is None else self._plan.slots.ranks(player, post.communicator)

    def partners(self, player: int, post: Exchange) -> tuple[int, ...]:
        """The ranks that a player's rank exchanges rows with."""
        if self.roles is None:
            return tuple({flow.peer for flow in (*post.sends, *post.receives)})
        return self.roles.members(player, post)
