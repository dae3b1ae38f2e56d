"""Groups on the pool: kept from case to case, destroyed and made anew, absent on idle ranks, on one thread of gloo."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
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
    assert pool.run(_idle_task, config) == ({}, None, None)


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


def _idle_task(member: Member, config: Config) -> tuple[object, object, object] | None:
    groups = member.groups(build_plan(config))
    return (groups.named, groups.control, groups.storage) if member.world.rank == 0 else None
