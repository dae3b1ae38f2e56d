"""One rank of a pool: the world that it joined and the groups that it keeps from case to case."""

from dataclasses import dataclass, field
from typing import Self

import torch

from counterpoint.execute.groups import GroupCache, Groups, World, join_world, make_groups
from counterpoint.parallelize.products import forget_travels
from counterpoint.plan.plan import Plan
from counterpoint.plan.tree import FAN_OUT
from counterpoint.verify.known import Known

_MOST_GROUPS = 160
"""Groups kept at most: every gloo group holds file descriptors and threads in every rank (facts)."""


@dataclass(slots=True)
class Member:
    """What a task gets: its rank's world and groups, of which those of hosts have at most `fan_out` ranks."""

    world: World
    cache: GroupCache = field(default_factory=GroupCache)
    known: Known = field(default_factory=Known)
    action: str = "waiting"
    fan_out: int = FAN_OUT

    @classmethod
    def join(cls, device_type: str) -> Self:
        """Join the pool's world; reads torchrun's environment variables."""
        torch.set_num_threads(1)
        return cls(join_world(device_type, timeout_seconds=600.0, startup_seconds=120.0))

    def observe(self, action: object) -> None:
        """Note what the rank is doing."""
        self.action = str(action)

    def groups(self, plan: Plan) -> Groups:
        """The groups of a plan whose world is the first ranks of the pool; called by all ranks of the pool."""
        if self.cache.size > _MOST_GROUPS:
            forget_travels()
            self.cache.destroy()
        return make_groups(self.world, plan.communicators, plan.placement.active, self.cache, self.fan_out)
