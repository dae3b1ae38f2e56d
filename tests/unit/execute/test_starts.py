"""Starts of the world: what one leaves in a store, the next does not meet."""

import threading

import pytest
from torch._C._distributed_c10d import HashStore, Store

from counterpoint.errors import RunError
from counterpoint.execute.attempt import own_store

RANKS = (0, 1, 2)


def test_starts_of_a_world_share_nothing() -> None:
    """Two starts on one store, the first of which left its keys; then one in which ranks are missing."""
    store = HashStore()
    for start in range(2):
        stores: dict[int, Store] = {}

        def join(rank: int, stores: dict[int, Store] = stores) -> None:
            stores[rank] = own_store(store, rank, len(RANKS), 600.0)

        threads = [threading.Thread(target=join, args=(rank,)) for rank in RANKS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(own.check(["key"]) for own in stores.values())
        stores[1].set("key", str(start))
        assert {own.get("key") for own in stores.values()} == {str(start).encode()}
    with pytest.raises(RunError, match=r"rank 1, 2 of 3 did not start within 0 seconds"):
        own_store(store, 0, len(RANKS), 0.0)
