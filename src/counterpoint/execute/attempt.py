"""One start of the world: a store of its own inside one that may hold keys of an earlier start.

An elastic agent keeps its store over restarts, and the agents of several machines need not count the same number of
restarts. So rank 0 chooses a name, and a rank takes a name only as an answer to a number that it drew itself.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

from counterpoint.errors import RunError

_HELLO, _ANSWER = "counterpoint/hello", "counterpoint/answer"
_POLL_SECONDS = 0.02
_EXTRA_SECONDS = 30.0
"""How much longer than rank 0 the others wait: only rank 0 can say which ranks are missing."""


def own_store(store: Store, rank: int, size: int, seconds: float) -> Store:
    """The part of a shared store that only ranks of this start use; raises RunError if not all are here in time."""
    name = uuid.uuid4().hex
    if rank == 0:
        own = PrefixStore(f"counterpoint/{name}", store)
        _welcome(store, own, name, size, seconds)
        return own
    store.set(f"{_HELLO}/{rank}", name)
    try:
        store.wait([f"{_ANSWER}/{name}"], timedelta(seconds=seconds + _EXTRA_SECONDS))
    except RuntimeError as error:
        raise RunError(
            f"rank 0 did not start within {seconds:g} seconds, as rank {rank} did ({_first_line(error)}); what rank 0 "
            "wrote says why; raise watchdog.startup_seconds if it is only slow"
        ) from None
    own = PrefixStore(f"counterpoint/{store.get(f'{_ANSWER}/{name}').decode()}", store)
    own.set(f"here/{rank}", "")
    return own


def _welcome(store: Store, own: Store, name: str, size: int, seconds: float) -> None:
    """Answer every hello, even of ranks that are gone by now, until all ranks have answered back."""
    deadline = time.monotonic() + seconds
    missing = list(range(1, size))
    while missing:
        for rank in missing:
            if store.check([f"{_HELLO}/{rank}"]):
                store.set(f"{_ANSWER}/{store.get(f'{_HELLO}/{rank}').decode()}", name)
        missing = [rank for rank in missing if not own.check([f"here/{rank}"])]
        if missing and time.monotonic() > deadline:
            ranks = ", ".join(map(str, missing))
            raise RunError(
                f"rank {ranks} of {size} did not start within {seconds:g} seconds, as rank 0 did; what it wrote says "
                "why; raise watchdog.startup_seconds if it is only slow"
            )
        if missing:
            time.sleep(_POLL_SECONDS)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
