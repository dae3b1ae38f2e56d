"""A tree of small groups over many ranks, for what hosts tell each other: who is in which group, and by what name.

A group over all ranks would connect every process with every other one. In a tree a process is connected with the
members of one group on each level.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

FAN_OUT = 64
"""Most ranks of a group: up to so many, a tree is one group."""


class Branch(NamedTuple):
    """One group of a tree: its level, 0 for the lowest, its ranks, and the number of members below each of them."""

    level: int
    ranks: tuple[int, ...]
    below: tuple[int, ...]


def branches(members: Sequence[int], fan_out: int = FAN_OUT) -> tuple[Branch, ...]:
    """The groups of a tree over `members`, lowest level first; none has a single rank.

    Consecutive members form groups of at most `fan_out`, as even as they can be; the first ranks of the groups of a
    level are the members of the next one, up to a level with one group.
    """
    assert fan_out > 1, "a group of one leads nowhere"
    found: list[Branch] = []
    level, ranks, below = 0, tuple(members), (1,) * len(members)
    while len(ranks) > 1:
        groups = -(-len(ranks) // fan_out)
        bounds = [number * len(ranks) // groups for number in range(groups + 1)]
        cuts = [slice(*bound) for bound in pairwise(bounds)]
        found += [Branch(level, ranks[cut], below[cut]) for cut in cuts if len(ranks[cut]) > 1]
        level, ranks, below = level + 1, tuple(ranks[cut][0] for cut in cuts), tuple(sum(below[cut]) for cut in cuts)
    return tuple(found)


def branch_name(use: str, branch: Branch, is_only: bool) -> str:
    """The name of a group in messages: its use alone if it is the whole tree."""
    return use if is_only else f"{use}.{branch.level}[{branch.ranks[0]}-{branch.ranks[-1]}]"


def named_branches(use: str, members: Sequence[int], fan_out: int = FAN_OUT) -> dict[str, Branch]:
    """The groups of a tree by name, in the order in which all ranks create them."""
    found = branches(members, fan_out)
    return {branch_name(use, branch, len(found) == 1): branch for branch in found}


def use_of(name: str) -> str:
    """The use that a tree's name begins with; any other communicator has its own name's beginning."""
    return name.partition(".")[0]


def parts_below(branch: Branch) -> tuple[slice, ...]:
    """Where the members below each rank of a group stand among all below the group."""
    return tuple(slice(*bound) for bound in pairwise((0, *accumulate(branch.below))))
