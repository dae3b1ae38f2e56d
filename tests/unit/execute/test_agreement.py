"""Ranks that have planned something else are refused before any group exists."""

import pytest
from torch._C._distributed_c10d import HashStore

from counterpoint.errors import RunError
from counterpoint.execute.agreement import check_digest
from counterpoint.execute.groups import World
from tests.unit.execute.rank import CPU


def test_all_ranks_compare_with_the_first() -> None:
    store = HashStore()
    worlds = [World(rank, CPU, store, "fake", CPU) for rank in range(3)]
    check_digest(worlds[0], "plan")
    check_digest(worlds[1], "plan")
    with pytest.raises(RunError, match=r"^rank 2 has planned something else than rank 0 \(digests other and plan\)"):
        check_digest(worlds[2], "other")
