"""A loss of a module's rows beside the main one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FurtherLoss:
    """A loss of this kind, of which a module has one at most.

    One of items' rows compares them with `targets` of a name, each row with its own, or where it `is_pooled` the mean
    of an item's rows with the item's; with `sees_all` those of all items of the global batch are there.
    """

    kind: str
    targets: str | None = None
    is_pooled: bool = False
    sees_all: bool = False
