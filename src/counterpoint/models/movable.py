"""Dataclasses of tensors that move from the host to a device together."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor


class Movable:
    """A frozen dataclass of tensors, numbers, other such dataclasses, and tuples of them."""

    def to(self, device: torch.device | str) -> Self:
        """A copy on `device`; copies from pinned memory are asynchronous."""
        moved: Self = _moved(self, lambda tensor: tensor.to(device, non_blocking=True))
        return moved

    def pinned(self) -> Self:
        """A copy in pinned memory."""
        pinned: Self = _moved(self, Tensor.pin_memory)
        return pinned


Key = TypeVar("Key", bound=Hashable)
M = TypeVar("M", bound=Movable)


def all_to(values: Mapping[Key, M], device: torch.device | str) -> dict[Key, M]:
    """All values on `device`; a tensor that several share is copied once."""
    return _together(values, lambda tensor: tensor.to(device, non_blocking=True))


def all_pinned(values: Mapping[Key, M]) -> dict[Key, M]:
    """All values in pinned memory; a tensor that several share is copied once."""
    return _together(values, Tensor.pin_memory)


def _together(values: Mapping[Key, M], move: Callable[[Tensor], Tensor]) -> dict[Key, M]:
    known: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = move(tensor)
        return known[id(tensor)]

    return {key: _moved(value, once) for key, value in values.items()}


def _moved(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, tuple):
        return tuple(_moved(entry, move) for entry in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), move) for field in fields(value)})
    return value
