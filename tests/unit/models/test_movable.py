"""Values made of tensors move as a whole, and what is no tensor stays what it was."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from counterpoint.models.movable import Movable
from tests.unit.models.model_samples import MODELS, SEVERAL, batch_with


@dataclass(frozen=True)
class _Box(Movable):
    """A value of every kind that may be in one."""

    rows: Tensor
    inner: "_Box | None"
    tuples: tuple[Any, ...]
    name: str
    count: int


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _tensors(entry)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _box() -> _Box:
    inner = _Box(torch.zeros(2), None, (), "inner", 1)
    return _Box(torch.ones(3), inner, (torch.zeros(1), ((inner, 4), "word", None)), "outer", 2)


def test_every_tensor_moves_and_nothing_else_changes() -> None:
    box = _box()
    moved = box.to("meta")
    assert [tensor.is_meta for tensor in _tensors(moved)] == [True] * 4
    assert [tensor.is_meta for tensor in _tensors(box)] == [False] * 4
    assert (moved.name, moved.count, moved.tuples[1][0][1], moved.tuples[1][1:]) == ("outer", 2, 4, ("word", None))
    assert moved.inner is not None
    assert (moved.inner.inner, moved.inner.tuples, moved.inner.name) == (None, (), "inner")


def test_every_tensor_is_pinned() -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    box = _box()
    with patch.object(Tensor, "pin_memory", pin):
        copied = box.pinned()
    assert [id(tensor) for tensor in pinned] == [id(tensor) for tensor in _tensors(box)]
    assert not {id(tensor) for tensor in _tensors(copied)} & {id(tensor) for tensor in pinned}


@pytest.mark.parametrize("name", MODELS)
def test_batches_move_with_all_that_they_read(name: str) -> None:
    batch = batch_with(MODELS[name], SEVERAL, 4)
    moved = batch.to("meta")
    assert len(list(_tensors(batch))) == len(list(_tensors(moved))) > len(fields(batch.segments))
    assert all(tensor.is_meta for tensor in _tensors(moved))
    assert (moved.segments.lengths, moved.segments.rows) == (batch.segments.lengths, batch.segments.rows)
    assert type(moved) is type(batch)
