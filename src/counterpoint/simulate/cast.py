"""Who plays a step: all ranks, or one for all that do the same."""

from collections.abc import Mapping
from functools import cached_property
from typing import final

from counterpoint.check.events import Collective, Events, Exchange, Programs, expand
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import Roles, coarse
from counterpoint.plan.action import Action
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan

EXACT_RANKS = 64
"""Ranks up to which every rank is played by itself: their lanes have different loads."""


@final
class Cast:
    """Who plays a step: every rank for itself or, in a large world, the lowest rank of each role.

    A role computes what that lane of its ranks does which has the most work in the step, by FLOPs.
    """

    def __init__(
        self, plan: Plan, programs: Programs, batch: BatchPlan, exact_ranks: int = EXACT_RANKS
    ) -> None:  # fmt: skip
        self._plan, self._programs, self._batch = plan, programs, batch
        self.roles: Roles | None = coarse(plan, programs) if len(programs) > exact_ranks else None
        self._heaviest: dict[tuple[int, str], int] = {}
        self._of_lanes: dict[str, list[int]] = {}

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

    def payer(self, player: int, module: str) -> int:
        """The rank of a player whose lane of a module has the most work in the step."""
        if self.roles is None:
            return player
        if (player, module) not in self._heaviest:
            layout = self._plan.layouts[module]
            lanes = {layout.coordinate(rank).dp: rank for rank in reversed(self.roles.ranks(player))}
            loads = self._loads(module)
            self._heaviest[player, module] = lanes[max(lanes, key=lambda lane: (loads[lane], -lane))]
        return self._heaviest[player, module]

    def _loads(self, module: str) -> list[int]:
        """FLOPs of each lane of a module."""
        if module not in self._of_lanes:
            cost, loads = self._plan.facts[module].cost, [0] * self._plan.layouts[module].dp
            for lanes in self._batch.shares[module]:
                for lane in range(len(loads)):
                    loads[lane] += sum(cost.of_each(lanes.lengths(lane)))
            self._of_lanes[module] = loads
        return self._of_lanes[module]

    def members(self, player: int, post: Collective) -> tuple[int, ...]:
        """The ranks of a collective that a player's rank takes part in."""
        return post.ranks if self.roles is None else self._plan.slots.ranks(player, post.communicator)

    def partners(self, player: int, post: Exchange) -> tuple[int, ...]:
        """The ranks that a player's rank exchanges rows with."""
        if self.roles is None:
            return tuple({flow.peer for flow in (*post.sends, *post.receives)})
        return self.roles.members(player, post)
