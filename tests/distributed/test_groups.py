"""Groups on the pool: kept from case to case, destroyed and made anew, absent on idle ranks, on one thread of gloo."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from counterpoint.check.blame import CONTROL, STORAGE
from counterpoint.config.schema import Config
from counterpoint.execute.groups import Groups, make_groups
from counterpoint.plan.tree import use_of
from counterpoint.setup.run import build_plan
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import named_config


def test_cases_go_on_after_all_groups_are_destroyed(pool: Pool) -> None:
    before, after = pool.run(_destroy_between_task, named_config("dp2_to_tp2"))
    assert before.holds
    assert after == before


def test_a_plan_seen_before_makes_no_group(pool: Pool) -> None:
    first, second = pool.run(_group_counts_task, named_config("mixed_2_of_4"))
    assert 0 < first == second


def test_an_idle_rank_has_no_group(pool: Pool) -> None:
    config = named_config("colocated_with_idle_rank")
    assert config.world.idle == (0,)
    assert pool.run(_idle_task, config) == ({}, None, None, None)


def test_operations_are_counted_by_communicator(pool: Pool) -> None:
    """Of transfers none: whether they are begun follows from the program."""
    before, after = pool.run(_counts_task, named_config("dp2_to_tp2"))
    assert before.keys() == after.keys() == {"collective[0-3]", "collective[0-1]", CONTROL, STORAGE}
    begun = {name: after[name] - before[name] for name in before}
    assert begun == {"collective[0-3]": 2, "collective[0-1]": 0, CONTROL: 1, STORAGE: 0}


@pytest.mark.parametrize("fan_out", [2, 3, 64])
def test_hosts_tell_each_other_along_a_tree(pool: Pool, fan_out: int) -> None:
    """The same of any fan-out, with members that are not the first ranks of the world."""
    members = (0, 2, 3, 4, 5, 6, 7)
    groups, counts = pool.run(_tree_task, members, fan_out)
    assert groups == {2: 6, 3: 4, 64: 1}[fan_out]
    # All members of a group begin the same operations in it, or a roll call would blame one that is not late.
    assert all(len(of_group) == 1 for of_group in counts.values())
    assert len(counts) == groups


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux shows threads as files")
def test_all_groups_share_the_thread_of_their_connections(pool: Pool) -> None:
    """New groups add none to those that were there, whatever tests before have left or is about to end."""
    groups, before, added = pool.run(_loops_task, named_config("dp2_to_tp2"))
    assert groups > 1
    if not before:
        pytest.skip("this version of gloo does not name its threads")
    assert added == 0


def _destroy_between_task(member: Member, config: Config) -> tuple[CaseResult, CaseResult] | None:
    before = verify_task(member, config)
    member.cache.destroy()
    assert member.cache.size == 0
    after = verify_task(member, config)
    return None if before is None or after is None else (before, after)


def _group_counts_task(member: Member, config: Config) -> tuple[int, int]:
    plan = build_plan(config)
    member.groups(plan)
    first = member.cache.size
    member.groups(plan)
    return first, member.cache.size


def _loops_task(member: Member, config: Config) -> tuple[int, int, int] | None:
    """How many groups a plan has on rank 0, how many threads of connections were there before, and how many of the
    groups' own there are."""
    member.cache.destroy()
    before = _loops()
    named = member.groups(build_plan(config)).named
    for _name, group in sorted(named.items()):
        # A thread has its name once it works.
        dist.all_reduce(torch.zeros(1), group=group)
    return (len(set(named.values())), len(before), len(_loops() - before)) if member.world.rank == 0 else None


def _loops() -> set[str]:
    """The ids of gloo's threads for connections; a thread that ends while others are read is none."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if (thread / "comm").read_text().strip() == "gloo_tcp_loop":
                found.add(thread.name)
    return found


def _idle_task(member: Member, config: Config) -> tuple[object, object, object, object] | None:
    groups = member.groups(build_plan(config))
    return (groups.named, groups.control, groups.storage, groups.own) if member.world.rank == 0 else None


def _counts_task(member: Member, config: Config) -> tuple[dict[str, int], dict[str, int]] | None:
    plan = build_plan(config)
    groups = member.groups(plan)
    if groups.control is None:
        return None
    before = groups.calls()
    for _time in range(2):
        dist.all_reduce(torch.zeros(1), group=groups.collective(plan.placement.active))
    groups.control.maximum(0)
    after = groups.calls()
    return (before, after) if member.world.rank == 0 else None


def _tree_task(member: Member, members: tuple[int, ...], fan_out: int) -> tuple[int, dict[str, set[int]]] | None:
    """The number of groups, and how often the members of each began an operation in it."""
    groups = make_groups(member.world, (), members, member.cache, fan_out)
    rank, tree, other = member.world.rank, groups.control, groups.storage
    if tree is None or other is None:
        return None
    begun, is_first = groups.calls(), rank == members[0]
    assert (tree.number, tree.size, tree.is_first) == (members.index(rank), len(members), is_first)
    assert tree.gather(f"of {rank}") == ([f"of {one}" for one in members] if is_first else None)
    assert tree.broadcast(f"from {rank}") == f"from {members[0]}"
    assert tree.scatter([f"to {one}" for one in members] if is_first else None) == f"to {rank}"
    # In order, and whatever merges them.
    assert tree.merged([rank], lambda several: [one for some in several for one in some]) == list(members)
    assert tree.maximum(rank, -rank, 10 * rank % 9) == (7, 0, max(10 * one % 9 for one in members))
    now = groups.calls()
    mine = [{name: now[name] - count for name, count in begun.items() if name.startswith(CONTROL)}]
    assert all(now[name] == count for name, count in begun.items() if not name.startswith(CONTROL))
    counts: dict[str, set[int]] = {}
    for of_rank in other.merged(mine, lambda several: [one for some in several for one in some]):
        for name, count in of_rank.items():
            counts.setdefault(name, set()).add(count)
    return (len(_names_of_control(groups)), counts) if is_first else None


def _names_of_control(groups: Groups) -> list[str]:
    """The groups of the tree of control, of whichever ranks."""
    return [name for name in groups.host_ranks if use_of(name) == CONTROL]
