"""Roll calls: on a suspicion every rank publishes its position, and the rank that called decides.

Only one rank calls at a time; calls are numbered, and every key of the store belongs to one number.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from torch.distributed.distributed_c10d import Store

from counterpoint.check.blame import Position

_PREFIX = "counterpoint/roll"
_POLL_SECONDS = 0.05


class RollCall:
    """One rank's part in the roll calls; `position` returns its position. Thread-safe."""

    def __init__(self, store: Store, rank: int, position: Callable[[], Position]) -> None:
        self._store: Store = store.clone()  # type: ignore[attr-defined]  # in torch since 2.9, not in its stubs
        self._rank, self._position = rank, position
        self._number, self._told = 0, (0, "")
        self._lock = threading.Lock()

    def answer(self) -> bool:
        """Publish the position if any rank has called; returns whether one has."""
        with self._lock:
            if not self._store.check([self._key()]):
                return False
            self._publish()
            return True

    def call(self) -> int | None:
        """Begin a roll call and return its number, or answer the one that another rank began, and return None."""
        with self._lock:
            number, mine = self._number, str(self._rank)
            caller = self._store.compare_set(self._key(), "", mine).decode()
            self._publish()
            return number if caller == mine else None

    def gather(self, number: int, ranks: Sequence[int], seconds: float) -> dict[int, Position | None]:
        """The positions of these ranks once all have answered; None for each that has not after `seconds`."""
        deadline = time.monotonic() + seconds
        keys = {rank: f"{_PREFIX}/{number}/{rank}" for rank in ranks}
        found: dict[int, Position | None] = {}
        while len(found) < len(keys):
            is_late = time.monotonic() > deadline
            for rank, key in keys.items():
                if rank not in found and self._store.check([key]):
                    found[rank] = _parse(self._store.get(key).decode())
            if is_late:
                break
            if len(found) < len(keys):
                time.sleep(_POLL_SECONDS)
        return {rank: found.get(rank) for rank in ranks}

    def grant(self, number: int, seconds: float) -> None:
        """Tell all ranks how long to be patient: while the verdict is being found, or because no rank is stuck yet."""
        self._store.set(f"{_PREFIX}/{number}/patience", str(seconds))

    def granted(self) -> float | None:
        """The seconds that the last roll call granted, if any; each grant is returned once."""
        key = f"{_PREFIX}/{self._number - 1}/patience"
        if not self._store.check([key]):
            return None
        told = (self._number, self._store.get(key).decode())
        if told == self._told:
            return None
        self._told = told
        return float(told[1])

    def _key(self) -> str:
        return f"{_PREFIX}/{self._number}"

    def _publish(self) -> None:
        self._store.set(f"{self._key()}/{self._rank}", json.dumps(asdict(self._position())))
        self._number += 1


def _parse(text: str) -> Position:
    fields = json.loads(text)
    device = fields.pop("device")
    return Position(**fields, device=None if device is None else tuple(device))
