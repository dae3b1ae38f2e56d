"""All layouts together: who is where, and that every rank of the world has work."""

from dataclasses import dataclass

from counterpoint.errors import PlacementError
from counterpoint.plan.layout import Layout, format_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRequest:
    """A layout as configured: `None` means dealt from the world (ranks) or following from the ranks (dp_shard)."""

    module: str
    ranks: tuple[int, ...] | None = None
    pp: int = 1
    dp_replicate: int = 1
    dp_shard: int | None = None
    cp: int = 1
    tp: int = 1
    ep: int = 1
    etp: int = 1
    sequence_parallel: bool = True
    reshard: bool = False
    chunks: int = 1

    @property
    def fixed_degree(self) -> int:
        """The product of all degrees but dp_shard."""
        return self.pp * self.dp_replicate * self.cp * self.tp


@dataclass(frozen=True, slots=True)
class Placement:
    """The layouts of all modules over the ranks of the world."""

    world_size: int
    layouts: tuple[Layout, ...]
    idle: tuple[int, ...] = ()

    def layout(self, module: str) -> Layout:
        """The layout of a module by name."""
        return next(layout for layout in self.layouts if layout.module == module)

    @property
    def active(self) -> tuple[int, ...]:
        """Ranks that have work, ascending."""
        return tuple(rank for rank in range(self.world_size) if rank not in self.idle)

    def modules_of(self, rank: int) -> tuple[str, ...]:
        """Names of the modules that a rank is part of."""
        return tuple(layout.module for layout in self.layouts if rank in layout.ranks)

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
    requests: tuple[LayoutRequest, ...],
    idle: tuple[int, ...] = (),
    partial_overlap: bool = False,
) -> Placement:
    """Resolve requests into a placement that covers the world; raises PlacementError naming ranks and remedy."""
    _check_world(world_size, requests, idle)
    layouts = tuple(_resolve(request, world_size, requests, idle) for request in requests)
    if not partial_overlap:
        _check_overlaps(layouts)
    used = {rank for layout in layouts for rank in layout.ranks}
    gaps = tuple(rank for rank in range(world_size) if rank not in used and rank not in idle)
    if gaps:
        raise PlacementError(
            f"world.size: ranks {format_ranks(gaps)} of {world_size} have no module, expected work for every rank; "
            f"give them to a module or list them under world.idle: {_listed(gaps)}"
        )
    return Placement(world_size, layouts, tuple(sorted(idle)))


def _check_world(world_size: int, requests: tuple[LayoutRequest, ...], idle: tuple[int, ...]) -> None:
    named = [("world.idle", idle)]
    named += [(f"modules.{r.module}.layout.ranks", r.ranks) for r in requests if r.ranks is not None]
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


def _resolve(
    request: LayoutRequest, world_size: int, requests: tuple[LayoutRequest, ...], idle: tuple[int, ...]
) -> Layout:
    where = f"modules.{request.module}.layout"
    ranks = request.ranks if request.ranks is not None else _dealt(request, world_size, requests, idle)
    shard = request.dp_shard
    if shard is None:
        shard, rest = divmod(len(ranks), request.fixed_degree)
        if rest or not shard:
            raise PlacementError(
                f"{where}: the {len(ranks)} ranks {_listed(ranks)} are not a multiple of pp {request.pp} x "
                f"dp_replicate {request.dp_replicate} x cp {request.cp} x tp {request.tp} = "
                f"{request.fixed_degree}, so dp_shard has no value; change a degree or the rank list"
            )
    return Layout(
        module=request.module, ranks=tuple(ranks), pp=request.pp, dp_replicate=request.dp_replicate, dp_shard=shard,
        cp=request.cp, tp=request.tp, ep=request.ep, etp=request.etp,
        sequence_parallel=request.sequence_parallel, reshard=request.reshard,
        chunks=request.chunks,
    )  # fmt: skip


def _dealt(
    request: LayoutRequest, world_size: int, requests: tuple[LayoutRequest, ...], idle: tuple[int, ...]
) -> tuple[int, ...]:
    """Modules without ranks take the lowest free ones in their order; one without dp_shard takes what is left."""
    taken = set(idle) | {rank for r in requests if r.ranks is not None for rank in r.ranks}
    free = [rank for rank in range(world_size) if rank not in taken]
    dealt = [r for r in requests if r.ranks is None]
    open_ended = [r.module for r in dealt if r.dp_shard is None]
    fixed = sum(r.fixed_degree * r.dp_shard for r in dealt if r.dp_shard is not None)
    if len(open_ended) > 1:
        raise PlacementError(
            f"modules {open_ended} give neither layout.ranks nor layout.dp_shard, expected at most one such module; "
            "give ranks or dp_shard to all but one"
        )
    if fixed > len(free) or (open_ended and fixed == len(free)):
        raise PlacementError(
            f"modules.{request.module}.layout.ranks: left out, and the free ranks {_listed(tuple(free))} are too few "
            f"for the degrees of {[r.module for r in dealt]}; raise world.size or give ranks"
        )
    start = 0
    for r in dealt:
        count = len(free) - fixed if r.dp_shard is None else r.fixed_degree * r.dp_shard
        if r.module == request.module:
            return tuple(free[start : start + count])
        start += count
    raise AssertionError("the request is one of the dealt ones")


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
    """Ranks as a config has them, or as ranges where they are many."""
    return str(list(ranks)) if len(ranks) <= _LISTED_AT_MOST else f"[{format_ranks(ranks)}]"


_LISTED_AT_MOST = 16
