"""Who plays a step: all ranks, or one for all that do the same."""

from collections.abc import Mapping
from functools import cached_property
from typing import final

from counterpoint.check.events import Collective, Events, Exchange, Programs, expand
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import Roles, coarse
from counterpoint.plan.action import Action
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan

EXACT_RANKS = 64
"""Ranks up to which every rank is played by itself: their lanes have different loads."""


@final
class Cast:
    """Who plays a step: every rank for itself or, in a large world, the lowest rank of each role.

    A role computes what that lane of its ranks does which has the most work in the step, by FLOPs, or in a microbatch
    where lanes meet in every compute.
    """

    def __init__(
        self, plan: Plan, programs: Programs, batch: BatchPlan, exact_ranks: int = EXACT_RANKS
    ) -> None:  # fmt: skip
        self._plan, self._programs, self._batch = plan, programs, batch
        self.roles: Roles | None = coarse(plan, programs) if len(programs) > exact_ranks else None
        self._heaviest: dict[tuple[int, str, int | None], int] = {}
        self._of_lanes: dict[str, list[list[int]]] = {}

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

    def payer(self, player: int, node: Node, microbatch: int) -> int:
        """The rank of a player whose lane has the most work at a compute of a stage."""
        if self.roles is None:
            return player
        module = node.module
        key = player, module, microbatch if self._meets(node) else None
        if key not in self._heaviest:
            layout = self._plan.layouts[module]
            lanes = {layout.coordinate(rank).dp: rank for rank in reversed(self.roles.ranks(player))}
            loads = self._loads(module, key[2])
            self._heaviest[key] = lanes[max(lanes, key=lambda lane: (loads[lane], -lane))]
        return self._heaviest[key]

    def _meets(self, node: Node) -> bool:
        """Whether the lanes of a stage meet in every compute, to gather parameters or to trade rows of experts."""
        layout = self._plan.layouts[node.module]
        return layout.reshard or (self._plan.has_experts(node) and layout.expert_size > layout.lane_size)

    def _loads(self, module: str, microbatch: int | None) -> list[int]:
        """FLOPs of each lane of a module in a microbatch, by default in the step."""
        if module not in self._of_lanes:
            cost, lanes = self._plan.facts[module].cost, range(self._plan.layouts[module].dp)
            shares = self._batch.shares[module]
            self._of_lanes[module] = [[sum(cost.of_each(of.lengths(lane))) for lane in lanes] for of in shares]
        loads = self._of_lanes[module]
        return [sum(of_lane) for of_lane in zip(*loads, strict=True)] if microbatch is None else loads[microbatch]

    def members(self, player: int, post: Collective) -> tuple[int, ...]:
        """The ranks of a collective that a player's rank takes part in."""
        return post.ranks if self.roles is None else self._plan.slots.ranks(player, post.communicator)

    def partners(self, player: int, post: Exchange) -> tuple[int, ...]:
        """The ranks that a player's rank exchanges rows with."""
        if self.roles is None:
            return tuple({flow.peer for flow in (*post.sends, *post.receives)})
        return self.roles.members(player, post)
