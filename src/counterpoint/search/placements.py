"""Which modules share ranks, and how many ranks each of these groups has."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

MOST_SPLITS = 8
"""Evenly spaced splits of a world between two groups of modules; besides, groups of powers of two below these."""


class Placed(NamedTuple):
    """The ranks of each module, in the config's order."""

    ranks: tuple[tuple[str, Sequence[int]], ...]

    @property
    def is_colocated(self) -> bool:
        """Whether all modules are on the same ranks."""
        return len({ranks for _module, ranks in self.ranks}) == 1


def placements(
    world_size: int,
    modules: Sequence[str],
    held: Mapping[str, Sequence[int]],
    *,
    partial_overlap: bool,
    idle: Sequence[int] = (),
) -> Iterator[Placed]:
    """All modules on all ranks but the `idle` ones, then every way to give groups of modules ranks of their own.

    Groups take consecutive ranks in the order of their first modules; `held` are ranks that modules keep. With
    `partial_overlap` all but the last module may also be on the first ranks of those that the last one has.
    """
    for groups in _partitions(tuple(modules)):
        yield from _placed(world_size, modules, groups, held, idle)
    if partial_overlap and len(modules) > 1:
        *first, last = modules
        every = _left(world_size, idle)
        for size in sizes(len(every)):
            ranks = {**dict.fromkeys(first, every[:size]), last: every}
            if all(tuple(ranks[name]) == tuple(held.get(name, ranks[name])) for name in modules):
                yield Placed(tuple((name, ranks[name]) for name in modules))


def _left(world_size: int, taken: Collection[int]) -> Sequence[int]:
    """The ranks of a world that are not taken, as a range if these are all."""
    return range(world_size) if not taken else tuple(rank for rank in range(world_size) if rank not in taken)


def sizes(total: int) -> tuple[int, ...]:
    """The sizes that a first group of modules may have beside another one on `total` ranks, ascending."""
    if total <= MOST_SPLITS:
        return tuple(range(1, total))
    step = -(-total // MOST_SPLITS)
    powers = [1 << exponent for exponent in range(step.bit_length()) if 1 << exponent < step]
    return tuple(sorted({*powers, *range(step, total, step)}))


def _partitions(modules: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """All ways to group modules, the one group of all first."""
    if not modules:
        yield ()
        return
    first, rest = modules[0], modules[1:]
    for number in range(len(rest), -1, -1):
        for others in combinations(rest, number):
            left = tuple(name for name in rest if name not in others)
            for more in _partitions(left):
                yield ((first, *others), *more)


def _placed(
    world_size: int, modules: Sequence[str], groups: tuple[tuple[str, ...], ...], held: Mapping[str, Sequence[int]],
    idle: Sequence[int],
) -> Iterator[Placed]:  # fmt: skip
    fixed: dict[int, Sequence[int]] = {}
    for number, group in enumerate(groups):
        kept = {held[name] for name in group if name in held}
        if len(kept) > 1:
            return
        if kept:
            fixed[number] = kept.pop()
    free = _left(world_size, {rank for ranks in (*fixed.values(), idle) for rank in ranks})
    open_groups = [number for number in range(len(groups)) if number not in fixed]
    for counts in _compositions(len(free), len(open_groups)):
        start, ranks_of = 0, dict[int, Sequence[int]](fixed)
        for number, count in zip(open_groups, counts, strict=True):
            ranks_of[number] = free[start : start + count]
            start += count
        group_of = {name: number for number, group in enumerate(groups) for name in group}
        yield Placed(tuple((name, ranks_of[group_of[name]]) for name in modules))


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Ways to cut `total` ranks into `parts` groups."""
    if parts == 0:
        if total == 0:
            yield ()
        return
    if parts == 1:
        if total:
            yield (total,)
        return
    for size in sizes(total):
        for rest in _compositions(total - size, parts - 1):
            yield (size, *rest)
