"""A loss of a module's rows beside the main one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FurtherLoss:
    """A loss of a module's rows; a module has at most one of each kind.

    A loss of items' rows compares them with the targets named `targets`: each row with its own, or with `is_pooled` the
    mean of an item's rows with the item's. With `sees_all` it reads the targets of all items of the global batch.
    """

    kind: str
    targets: str | None = None
    is_pooled: bool = False
    sees_all: bool = False
