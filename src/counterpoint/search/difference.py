"""Where two steps differ in time: what the mean rank does longer in one than in the other."""

from collections.abc import Iterator
from typing import NamedTuple

from counterpoint.simulate.played import Breakdown


class Kind(NamedTuple):
    """A kind of work of the mean rank, and its seconds in two steps."""

    name: str
    first: float
    second: float

    @property
    def more(self) -> float:
        """Seconds by which the second step spends more on it."""
        return self.second - self.first


def kinds_of(first: Breakdown, second: Breakdown) -> tuple[Kind, ...]:
    """All kinds of work of two steps; each column adds up to its step."""
    return tuple(_kinds(first, second))


def reasons(first: Breakdown, second: Breakdown) -> tuple[Kind, ...]:
    """Why the second step takes longer: the kinds of which it has more, largest first, down to a tenth of the
    largest."""
    more = sorted((kind for kind in _kinds(first, second) if kind.more > 0.0), key=lambda kind: -kind.more)
    return tuple(kind for kind in more if kind.more > more[0].more / 10)


def _kinds(first: Breakdown, second: Breakdown) -> Iterator[Kind]:
    for module in dict.fromkeys([*first.computes, *second.computes]):
        yield Kind(f"compute of {module}", first.computes.get(module, 0.0), second.computes.get(module, 0.0))
    yield Kind("exposed communication", first.communication, second.communication)
    yield Kind("optimizer", first.optimizer, second.optimizer)
    yield Kind("idle", first.idle, second.idle)
