"""Values made of tensors, which move from the host to a device as a whole."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


class Movable:
    """A frozen dataclass of tensors, numbers, other such dataclasses, and tuples of them."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`; copies from pinned memory do not wait."""
        moved: Self = _moved(self, lambda tensor: tensor.to(device, non_blocking=True))
        return moved

    def pinned(self) -> Self:
        """The same in memory from which a GPU copies by itself."""
        pinned: Self = _moved(self, Tensor.pin_memory)
        return pinned


def _moved(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, tuple):
        return tuple(_moved(entry, move) for entry in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _moved(getattr(value, field.name), move) for field in fields(value)})
    return value
