"""Trees of groups: every member is reached once, no group is larger than asked, and names say which group it is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.tree import FAN_OUT, Branch, branches, named_branches, parts_below, use_of

MEMBERS = st.lists(st.integers(0, 500), min_size=1, max_size=200, unique=True).map(sorted)


def _below(rank: int, level: int, found: Sequence[Branch]) -> list[int]:
    """The members that a rank speaks for on a level, found by walking down."""
    for branch in found:
        if branch.level == level - 1 and branch.ranks[0] == rank:
            return [member for other in branch.ranks for member in _below(other, level - 1, found)]
    return [rank] if level == 0 else _below(rank, level - 1, found)


@given(MEMBERS, st.integers(2, 9))
def test_the_highest_group_speaks_for_all_members_in_order(members: list[int], fan_out: int) -> None:
    found = branches(members, fan_out)
    assert all(1 < len(branch.ranks) <= fan_out for branch in found)
    for branch in found:
        below = [_below(rank, branch.level, found) for rank in branch.ranks]
        assert [len(some) for some in below] == list(branch.below)
        together = [member for some in below for member in some]
        assert [together[part] for part in parts_below(branch)] == below
    if len(members) == 1:
        assert found == ()
    else:
        assert [branch.level for branch in found] == sorted(branch.level for branch in found)
        top = found[-1]
        assert [branch for branch in found if branch.level == top.level] == [top]
        assert _below(top.ranks[0], top.level + 1, found) == members
        assert len({(branch.level, branch.ranks[0]) for branch in found}) == len(found)


@given(MEMBERS, st.integers(2, 9))
def test_groups_of_a_tree_have_names_and_ranks_of_their_own(members: list[int], fan_out: int) -> None:
    named = named_branches("control", members, fan_out)
    assert len({branch.ranks for branch in named.values()}) == len(named) == len(branches(members, fan_out))
    assert {use_of(name) for name in named} <= {"control"}
    if 1 < len(members) <= fan_out:
        assert list(named) == ["control"]


@pytest.mark.parametrize(("ranks", "groups", "most"), [(64, 1, 63), (65, 3, 33), (4096, 65, 126), (16_384, 261, 129)])
def test_what_a_world_costs(ranks: int, groups: int, most: int) -> None:
    """The groups of a tree, and the most ranks that one of them is connected with."""
    found = branches(range(ranks))
    assert len(found) == groups
    connected = [0] * ranks
    for branch in found:
        for rank in branch.ranks:
            connected[rank] += len(branch.ranks) - 1
    assert max(connected) == most
    assert sorted(connected)[len(connected) // 2] < FAN_OUT
