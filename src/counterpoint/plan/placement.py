"""All layouts together: which modules are on which ranks, and that every rank of the world has work."""

from dataclasses import dataclass
from functools import cached_property

from counterpoint.errors import PlacementError
from counterpoint.plan.layout import Layout, format_ranks
from counterpoint.section.layout import LayoutConfig

Request = tuple[str, LayoutConfig]
"""A module and its requested layout; missing ranks or `dp_shard` are resolved from the world."""


@dataclass(frozen=True)
class Placement:
    """The layouts of all modules over the ranks of the world."""

    world_size: int
    layouts: tuple[Layout, ...]
    idle: tuple[int, ...] = ()

    def layout(self, module: str) -> Layout:
        """The layout of a module by name."""
        return next(layout for layout in self.layouts if layout.module == module)

    @cached_property
    def active(self) -> tuple[int, ...]:
        """Ranks that have work, ascending."""
        idle = frozenset(self.idle)
        return tuple(rank for rank in range(self.world_size) if rank not in idle)

    def modules_of(self, rank: int) -> tuple[str, ...]:
        """Names of the modules that a rank is part of."""
        return tuple(layout.module for layout in self.layouts if rank in layout)

    @property
    def kind(self) -> str:
        """`single`, `disjoint`, `colocated` (all modules on the same ranks) or `mixed`."""
        if len(self.layouts) == 1:
            return "single"
        sets = [set(layout.ranks) for layout in self.layouts]
        if all(ranks == sets[0] for ranks in sets):
            return "colocated"
        overlap = any(a & b for i, a in enumerate(sets) for b in sets[:i])
        return "mixed" if overlap else "disjoint"


def place(
    world_size: int,
    requests: tuple[Request, ...],
    idle: tuple[int, ...] = (),
    partial_overlap: bool = False,
) -> Placement:
    """Resolve requests into a placement that covers the world; raises PlacementError naming ranks and remedy."""
    _check_world(world_size, requests, idle)
    layouts = tuple(_resolve(request, world_size, requests, idle) for request in requests)
    if not partial_overlap:
        _check_overlaps(layouts)
    used = {rank for layout in layouts for rank in layout.ranks}.union(idle)
    gaps = tuple(rank for rank in range(world_size) if rank not in used)
    if gaps:
        raise PlacementError(
            f"world.size: ranks {format_ranks(gaps)} of {world_size} have no module, expected work for every rank; "
            f"give them to a module or list them under world.idle: {_listed(gaps)}"
        )
    return Placement(world_size, layouts, tuple(sorted(idle)))


def _check_world(world_size: int, requests: tuple[Request, ...], idle: tuple[int, ...]) -> None:
    named = [("world.idle", idle)]
    named += [(f"modules.{name}.layout.ranks", asked.ranks) for name, asked in requests if asked.ranks is not None]
    for where, ranks in named:
        outside = tuple(rank for rank in ranks if not 0 <= rank < world_size)
        if outside:
            raise PlacementError(
                f"{where}: got {_listed(outside)}, expected ranks from 0 to {world_size - 1} "
                f"(world.size is {world_size}); raise world.size or change the list"
            )
    for where, ranks in named[1:]:
        both = tuple(sorted(set(ranks) & set(idle)))
        if both:
            raise PlacementError(
                f"{where}: ranks {_listed(both)} are also listed under world.idle, expected one of the two; "
                "remove them from either list"
            )


def _resolve(request: Request, world_size: int, requests: tuple[Request, ...], idle: tuple[int, ...]) -> Layout:
    module, asked = request
    where = f"modules.{module}.layout"
    ranks = asked.ranks if asked.ranks is not None else _dealt(module, world_size, requests, idle)
    shard = asked.dp_shard
    if shard is None:
        shard, rest = divmod(len(ranks), asked.fixed_degree)
        if rest or not shard:
            raise PlacementError(
                f"{where}: the {len(ranks)} ranks {_listed(ranks)} are not a multiple of pp {asked.pp} x "
                f"dp_replicate {asked.dp_replicate} x cp {asked.cp} x tp {asked.tp} = "
                f"{asked.fixed_degree}, so dp_shard has no value; change a degree or the rank list"
            )
    return Layout(
        module=module, ranks=tuple(ranks), pp=asked.pp, dp_replicate=asked.dp_replicate, dp_shard=shard,
        cp=asked.cp, tp=asked.tp, ep=asked.expert.ep, etp=asked.expert.etp,
        sequence_parallel=asked.sequence_parallel, reshard=asked.reshard, chunks=asked.chunks,
    )  # fmt: skip


def _dealt(module: str, world_size: int, requests: tuple[Request, ...], idle: tuple[int, ...]) -> tuple[int, ...]:
    """Modules without ranks take the lowest free ones in their order; one without dp_shard takes what is left."""
    taken = set(idle) | {rank for _name, asked in requests if asked.ranks is not None for rank in asked.ranks}
    free = [rank for rank in range(world_size) if rank not in taken]
    dealt = [(name, asked) for name, asked in requests if asked.ranks is None]
    open_ended = [name for name, asked in dealt if asked.dp_shard is None]
    fixed = sum(asked.fixed_degree * asked.dp_shard for _name, asked in dealt if asked.dp_shard is not None)
    if len(open_ended) > 1:
        raise PlacementError(
            f"modules {open_ended} give neither layout.ranks nor layout.dp_shard, expected at most one such module; "
            "give ranks or dp_shard to all but one"
        )
    if fixed > len(free) or (open_ended and fixed == len(free)):
        raise PlacementError(
            f"modules.{module}.layout.ranks: left out, and the free ranks {_listed(tuple(free))} are too few "
            f"for the degrees of {[name for name, _asked in dealt]}; raise world.size or give ranks"
        )
    start = 0
    for name, asked in dealt:
        count = len(free) - fixed if asked.dp_shard is None else asked.fixed_degree * asked.dp_shard
        if name == module:
            return tuple(free[start : start + count])
        start += count
    raise AssertionError("the module is one of the dealt ones")


def _check_overlaps(layouts: tuple[Layout, ...]) -> None:
    for i, a in enumerate(layouts):
        for b in layouts[:i]:
            shared = tuple(sorted(set(a.ranks) & set(b.ranks)))
            if shared and set(a.ranks) != set(b.ranks):
                raise PlacementError(
                    f"modules.{a.module}.layout.ranks: {_listed(a.ranks)} and modules.{b.module}.layout.ranks: "
                    f"{_listed(b.ranks)} share ranks {_listed(shared)} but are neither disjoint nor the same; change "
                    "one, or set world.partial_overlap: true if it is meant"
                )


def _listed(ranks: tuple[int, ...]) -> str:
    """Ranks as a config has them, or as ranges if there are many."""
    return str(list(ranks)) if len(ranks) <= _LISTED_AT_MOST else f"[{format_ranks(ranks)}]"


_LISTED_AT_MOST = 16
