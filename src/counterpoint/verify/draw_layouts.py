"""Random layouts and placements: degrees that fit each model, on ranks that are disjoint, equal or overlapping."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.families import family_of
from counterpoint.kinds.family import ModelSection

Layouts = dict[str, dict[str, Any]]
"""A layout section for each module that was drawn."""


@dataclass(frozen=True, slots=True)
class _Degrees:
    pp: int
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int

    @property
    def stage_size(self) -> int:
        return self.dp_replicate * self.dp_shard * self.cp * self.tp

    @property
    def size(self) -> int:
        return self.pp * self.stage_size


def draw_layouts(base: Config, generator: random.Random, world_size: int, names: list[str]) -> Layouts:
    """Layouts of some modules on at most `world_size` ranks."""
    kinds = ["disjoint", "disjoint", "colocated", "colocated", "mixed", "mixed"]
    lists = None
    while lists is None:
        kind = "single" if len(names) == 1 else generator.choice(kinds)
        degrees = _draw_degrees(base, generator, world_size, names, kind)
        sizes = {name: degree.size for name, degree in degrees.items()}
        lists = _draw_ranks(generator, kind, sizes, world_size) if len(degrees) == len(names) else None
    return {name: _layout(base, generator, name, degrees[name], lists[name]) for name in names}


def _draw_degrees(
    base: Config, generator: random.Random, world_size: int, names: list[str], kind: str
) -> dict[str, _Degrees]:
    """Degrees of the modules, drawn one after the other, as many as fit, in random order."""
    degrees: dict[str, _Degrees] = {}
    shuffled = generator.sample(names, len(names))
    for waiting, name in zip(range(len(names) - 1, -1, -1), shuffled, strict=True):
        most = world_size
        if kind == "disjoint":
            most -= sum(other.size for other in degrees.values()) + waiting
        options = [option for option in _feasible(base, name, world_size) if option.size <= most]
        if kind == "colocated" and degrees:
            size = next(iter(degrees.values())).size
            options = [option for option in options if option.size == size]
        if not options:
            return {}
        # Weigh by size, so that one rank is no rarer than eight, then choose among layouts of that size.
        size = generator.choice(sorted({option.size for option in options}))
        degrees[name] = generator.choice([option for option in options if option.size == size])
    return degrees


def _feasible(base: Config, name: str, world_size: int) -> Iterator[_Degrees]:
    model = base.modules[name].model
    family = family_of(model)
    cuts = family.cuts(model)
    widths, heads = cuts.tp.values(), cuts.cp.values()
    sizes = range(1, world_size + 1)
    tensor = [tp for tp in sizes if all(width % tp == 0 for width in widths) and family.can_cut(model, tp)]
    context: Sequence[int] = (1,) if "cp" in family.fixed else sizes
    stages = range(1, min(model.num_layers, world_size) + 1)
    for pp, replicate, shard, cp, tp in product(stages, (1, 2), sizes, context, tensor):
        if pp * replicate * shard * cp * tp <= world_size and all(count // tp % cp == 0 for count in heads):
            yield _Degrees(pp, replicate, shard, cp, tp)


def _draw_ranks(
    generator: random.Random, kind: str, sizes: dict[str, int], world_size: int
) -> dict[str, list[int]] | None:
    """Ascending rank lists: consecutive in any order, interleaved, equal, or partly overlapping."""
    names = list(sizes)
    generator.shuffle(names)
    if kind in ("single", "colocated"):
        size = next(iter(sizes.values()))
        ranks = sorted(generator.sample(range(min(world_size, size + generator.choice([0, 0, 1]))), size))
        return dict.fromkeys(names, ranks)
    if kind == "disjoint":
        order = list(range(sum(sizes.values())))
        if generator.random() < 0.4:
            generator.shuffle(order)
        lists, first = {}, 0
        for name in names:
            lists[name] = sorted(order[first : first + sizes[name]])
            first += sizes[name]
        return lists
    return _overlapping(generator, names, sizes, world_size)


def _overlapping(
    generator: random.Random, names: list[str], sizes: dict[str, int], world_size: int
) -> dict[str, list[int]] | None:
    """Runs of ranks, each overlapping or following those before it; None if all are equal or all disjoint."""
    lists: dict[str, list[int]] = {}
    used = 0
    for name in names:
        first = generator.randint(0, min(used, world_size - sizes[name]))
        lists[name] = list(range(first, first + sizes[name]))
        used = max(used, first + sizes[name])
    is_apart = used == sum(sizes.values())
    is_same = all(ranks == lists[names[0]] for ranks in lists.values())
    return None if is_apart or is_same else lists


def _layout(base: Config, generator: random.Random, name: str, degrees: _Degrees, ranks: list[int]) -> dict[str, Any]:
    model = base.modules[name].model
    layers = model.num_layers
    chunks = generator.choice([1, 1, 2] if degrees.pp * 2 <= layers else [1])
    stages = degrees.pp * chunks
    split: str | list[int] = "even"
    if stages > 1 and generator.random() < 0.5:
        cuts = sorted(generator.sample(range(1, layers), stages - 1))
        split = [b - a for a, b in zip([0, *cuts], [*cuts, layers], strict=True)]
    return {
        "ranks": ranks,
        **asdict(degrees),
        "chunks": chunks,
        "expert": _draw_expert_view(model, generator, degrees.stage_size),
        "split": split,
        "sequence_parallel": generator.random() < 0.6,
        "reshard": generator.random() < 0.3,
    }


def _draw_expert_view(model: ModelSection, generator: random.Random, stage_size: int) -> dict[str, int]:
    cuts = family_of(model).cuts(model)
    if not cuts.has_experts:
        return {"ep": 1, "etp": 1}
    degrees = range(1, stage_size + 1)
    options = [
        (ep, etp)
        for ep, etp in product(degrees, degrees)
        if stage_size % (ep * etp) == 0
        and all(experts % ep == 0 for experts in cuts.ep.values())
        and all(width % etp == 0 for width in cuts.etp.values())
    ]
    ep, etp = generator.choice(options)
    return {"ep": ep, "etp": etp}
