"""What hosts tell each other: objects gathered, merged, broadcast and scattered along a tree of small groups.

Every member calls the same methods in the same order. A member that is gone or late is waited for by the members of
its own groups, and they by theirs; each group counts its operations, so a roll call finds where the waiting begins.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist

from counterpoint.plan.tree import Branch, parts_below

_T = TypeVar("_T")


@final
@dataclass(frozen=True, slots=True)
class Tree:
    """One member's place in a tree: its number among all `size` members, and its groups by name, lowest level first.

    `top` is the level of the whole tree's highest group. A tree of one member has no group.
    """

    number: int
    size: int
    groups: Mapping[str, tuple[Branch, dist.ProcessGroup]]
    top: int

    @property
    def is_first(self) -> bool:
        """Whether this is the first member, to which everything is gathered."""
        return self.number == 0

    @property
    def _downwards(self) -> tuple[tuple[Branch, dist.ProcessGroup], ...]:
        return tuple(self.groups.values())[::-1]

    def gather(self, value: _T) -> list[_T] | None:
        """The values of all members in their order, on the first one; None on the others."""
        # Members on the way hand on bytes: unpickling and pickling again would take as long at every level.
        held = [pickle.dumps(value)]
        for _branch, group in self.groups.values():
            parts = _gathered(held, group)
            if parts is None:
                return None
            held = [one for part in parts for one in part]
        return [pickle.loads(one) for one in held]

    def merged(self, value: _T, merge: Callable[[list[_T]], _T]) -> _T:
        """All members' values merged into one, on every member: `merge` gets values or merged values in order."""
        for _branch, group in self.groups.values():
            parts = _gathered(value, group)
            if parts is None:
                break
            value = merge(parts)
        return self.broadcast(value)

    def broadcast(self, value: _T) -> _T:
        """The first member's value, on every member."""
        held = [value]
        for _branch, group in self._downwards:
            dist.broadcast_object_list(held, group=group, group_src=0)
        return held[0]

    def scatter(self, values: Sequence[_T] | None) -> _T:
        """This member's value of those that the first member has for all members, in their order."""
        held = [pickle.dumps(one) for one in values or ()]
        for branch, group in self._downwards:
            into: list[Any] = [None]
            parts = None if group.rank() else [held[part] for part in parts_below(branch)]
            dist.scatter_object_list(into, parts, group=group, group_src=0)
            held = into[0]
        own: _T = pickle.loads(held[0])
        return own

    def maximum(self, *values: int) -> tuple[int, ...]:
        """The largest of each of these numbers over all members."""
        found = torch.tensor(values, dtype=torch.int64)
        for _branch, group in self.groups.values():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
        for branch, group in self._downwards:
            # The members of the highest group have the largest already.
            if branch.level != self.top:
                dist.broadcast(found, group=group, group_src=0)
        return tuple(found.tolist())


ALONE = Tree(number=0, size=1, groups={}, top=0)
"""The tree of this process alone."""


def _gathered(value: _T, group: dist.ProcessGroup) -> list[_T] | None:
    """The values of a group, on its first member; None on the others."""
    found: list[Any] | None = None if group.rank() else [None] * group.size()
    dist.gather_object(value, found, group=group, group_dst=0)
    return found
