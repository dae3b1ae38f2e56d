"""Rows are copied to where several readers need them, and summed again where they came from.

The gradient of a copy is a sum over its readers in a fixed order, never an atomic addition; that of a sum is a copy. On
GPUs the kernels of `permute_kernel.py` do both, elsewhere plain torch.
"""

from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

NOWHERE = -1
"""The key and the place of a slot that is not among the entries."""


class Order(NamedTuple):
    """Slots of rows sorted by key: `entries` int32 (entries,) are the slots, row * slots + slot, in sorted order,
    `places` int32 (rows, slots) the place of each slot among the entries, NOWHERE if it has none."""

    entries: Tensor
    places: Tensor

    def of(self, entries: int, rows: int) -> "Order":
        """The order with its number of entries, which the host may learn later, for `rows` rows: further rows have no
        entries."""
        further = rows - self.places.shape[0]
        places = F.pad(self.places, (0, 0, 0, further), value=NOWHERE) if further else self.places
        return Order(self.entries[:entries], places)

    def of_slots(self, rows: int) -> "Order":
        """The same order where each slot of the first `rows` rows is a row of its own."""
        return Order(self.entries, self.places[:rows].reshape(-1, 1))


def sort_slots(keys: Tensor, count: int) -> Order:
    """Sort the slots with a key in range(count) by key, and slots of the same key by row; others get no place.

    `keys` are int32 (rows, slots). The entries have room for all slots; `Order.of` cuts them to their number.
    """
    if keys.is_cuda:
        from counterpoint.models.permute_kernel import sorted_slots

        return Order(*sorted_slots(keys, count))
    return sort_slots_plainly(keys, count)


def sort_slots_plainly(keys: Tensor, count: int) -> Order:
    """`sort_slots` in plain torch, on any device."""
    flat = keys.flatten()
    has_place = (flat >= 0) & (flat < count)
    entries = torch.where(has_place, flat, count).sort(stable=True).indices
    places = torch.empty_like(entries).scatter(0, entries, torch.arange(entries.shape[0], device=keys.device))
    return Order(entries.int(), torch.where(has_place, places, NOWHERE).int().view(keys.shape))


def copied(rows: Tensor, order: Order) -> Tensor:
    """The row of each entry: rows (rows, width) -> (entries, width)."""
    out: Tensor = _Copy.apply(rows, *order)  # type: ignore[no-untyped-call]
    return out


def summed(rows: Tensor, order: Order) -> Tensor:
    """The sum of each row's entries, added up in at least float32: rows (entries, width) -> (rows, width)."""
    out: Tensor = _Sum.apply(rows, *order)  # type: ignore[no-untyped-call]
    return out


@final
class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, entries: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return copy_rows(rows, entries, places.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return sum_rows(gradients[0], places), None, None


@final
class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, entries: Tensor, places: Tensor) -> Tensor:
        ctx.slots = places.shape[1]
        ctx.save_for_backward(entries)
        return sum_rows(rows, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (entries,) = ctx.saved_tensors
        return copy_rows(gradients[0], entries, ctx.slots), None, None


def copy_rows(rows: Tensor, entries: Tensor, slots: int) -> Tensor:
    """`copied` without a gradient."""
    if rows.is_cuda:
        from counterpoint.models.permute_kernel import copies

        return copies(rows, entries, slots)
    return rows.index_select(0, entries // slots)


def sum_rows(rows: Tensor, places: Tensor) -> Tensor:
    """`summed` without a gradient."""
    if rows.is_cuda:
        from counterpoint.models.permute_kernel import sums

        return sums(rows, places)
    # NOWHERE counts from the end: a row of zeros.
    return torch.cat((rows, rows.new_zeros(1, rows.shape[1])))[places].sum(dim=1)
