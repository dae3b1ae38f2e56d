"""Models on the ranks of a pool, made parallel as training makes them."""

from collections.abc import Sequence

import torch

from counterpoint.execute.groups import make_groups
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import build_chain
from counterpoint.parallelize.apply import ParallelChain, Parallelism, parallelize
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.communicators import EXPERT_AXES, communicators
from counterpoint.plan.layout import Layout
from counterpoint.plan.placement import Placement
from counterpoint.verify.member import Member


def parallel_chain(member: Member, model: Model, layouts: Sequence[Layout], how: Parallelism) -> ParallelChain:
    """A rank's piece of the copy of a model that its layout holds; together the layouts take all ranks of the pool."""
    placement = Placement(sum(len(layout.ranks) for layout in layouts), tuple(layouts))
    more = tuple(group for layout in layouts for axis in EXPERT_AXES for group in layout.groups(axis))
    groups = make_groups(member.world, communicators(placement, (), more), placement.active, member.cache)
    with torch.device("meta"):
        chain = build_chain(parts_of(model)).to(dtype_of(how.precision.parameters))
    (layout,) = (layout for layout in layouts if member.world.rank in layout.ranks)
    return parallelize(chain, layout, groups, how)
