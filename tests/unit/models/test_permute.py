"""Slots sorted by key, copies of rows and their sums, against loops."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.models.permute import NOWHERE, Order, copied, sort_slots, summed

KEYS = st.integers(1, 4).flatmap(
    lambda slots: st.lists(st.lists(st.integers(-2, 6), min_size=slots, max_size=slots), max_size=9)
)


def keys_of(table: list[list[int]]) -> Tensor:
    return torch.tensor(table, dtype=torch.int32).view(len(table), -1 if table else 3)


def order_of(keys: Tensor, count: int, further: int = 0) -> Order:
    """The order with its number of entries, and rows after those with keys."""
    entries = int(((keys >= 0) & (keys < count)).sum())
    return sort_slots(keys, count).of(entries, keys.shape[0] + further)


@given(KEYS, st.integers(1, 5), st.integers(0, 2))
@settings(deadline=None)
def test_slots_are_sorted_by_key_then_row(table: list[list[int]], count: int, further: int) -> None:
    keys = keys_of(table)
    entries, places = order_of(keys, count, further)
    flat = keys.flatten().tolist()
    expected = sorted((key, slot) for slot, key in enumerate(flat) if key in range(count))
    assert entries.tolist() == [slot for _key, slot in expected]
    place = {slot: place for place, (_key, slot) in enumerate(expected)}
    padding = [NOWHERE] * (further * keys.shape[1])
    assert places.flatten().tolist() == [place.get(slot, NOWHERE) for slot in range(len(flat))] + padding
    assert places.shape[0] == keys.shape[0] + further


@given(KEYS, st.integers(1, 5), st.integers(0, 2))
@settings(deadline=None, max_examples=30)
def test_copies_and_sums_are_transposes_of_each_other(table: list[list[int]], count: int, further: int) -> None:
    order = order_of(keys_of(table), count, further)
    rows = torch.randn(order.places.shape[0], 2, dtype=torch.float64, requires_grad=True)
    entries = torch.randn(order.entries.shape[0], 2, dtype=torch.float64, requires_grad=True)
    copies, sums = copied(rows, order), summed(entries, order)
    slots = order.places.shape[1]
    read = [slot // slots for slot in order.entries.tolist()]
    assert torch.equal(copies, torch.stack([rows[row] for row in read]) if read else rows.new_zeros(0, 2))
    expected = torch.zeros_like(rows)
    for entry, row in zip(entries, read, strict=True):
        expected = expected + (torch.arange(len(rows)) == row)[:, None] * entry
    assert torch.allclose(sums, expected, rtol=1e-12, atol=1e-12)
    (of_rows,) = torch.autograd.grad(copies, rows, entries.detach())
    assert torch.equal(of_rows, sums)
    (of_entries,) = torch.autograd.grad(sums, entries, rows.detach())
    assert torch.equal(of_entries, copies)


def test_what_lies_where_no_entry_is_read_counts_for_nothing() -> None:
    order = order_of(torch.tensor([[0, -1], [5, 7]], dtype=torch.int32), 2)
    rows = torch.tensor([[1.0], [torch.inf]])
    assert copied(rows, order).tolist() == [[1.0]]
    assert summed(torch.tensor([[3.0]]), order).tolist() == [[3.0], [0.0]]


def test_slots_of_a_row_are_rows_of_their_own() -> None:
    order = order_of(torch.tensor([[1, 0], [0, -1]], dtype=torch.int32), 2, further=1)
    weights = torch.tensor([[0.1, 0.2], [0.3, 0.4]], requires_grad=True)
    found = copied(weights.reshape(-1, 1), order.of_slots(2))
    assert torch.equal(found.flatten(), torch.tensor([0.2, 0.3, 0.1]))
    found.backward(torch.tensor([[1.0], [2.0], [3.0]]))
    assert weights.grad is not None
    assert weights.grad.tolist() == [[3.0, 1.0], [2.0, 0.0]]
