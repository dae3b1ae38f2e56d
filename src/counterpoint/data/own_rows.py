"""The rows of items that a process holds: some of a lane's, or all of whole items behind each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from counterpoint.data.payload import ClipPayload, FeaturePayload, PatchPayload
from counterpoint.models.segments import Segments

P = TypeVar("P", PatchPayload, ClipPayload, FeaturePayload)
Sided = TypeVar("Sided", ClipPayload, FeaturePayload)


@final
@dataclass(frozen=True, slots=True)
class Own(Generic[P]):
    """An item of which a process holds rows: `here` among its own are `there` of the item."""

    payload: P
    here: slice
    there: slice


def lay_whole(payloads: Sequence[Sided]) -> tuple[Iterator[Own[Sided]], Segments]:
    """Items behind each other, each whole and seen by itself."""
    segments = Segments.build([payload.rows for payload in payloads], sum(payload.rows for payload in payloads))
    return _behind_each_other(payloads), segments


def _behind_each_other(payloads: Sequence[Sided]) -> Iterator[Own[Sided]]:
    row = 0
    for payload in payloads:
        yield Own(payload, slice(row, row + payload.rows), slice(0, payload.rows))
        row += payload.rows
