"""Links: how tensors of ours lie in tensors of a checkpoint. Each is linear, so gradients convert as weights do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


class Link(ABC):
    """Some tensors of ours and the tensors of a checkpoint that hold the same values."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]

    @abstractmethod
    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors named `theirs` -> those named `ours`."""

    @abstractmethod
    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors named `ours` -> those named `theirs`."""


@final
@dataclass(frozen=True)
class Same(Link):
    """One tensor under two names."""

    ours: tuple[str]
    theirs: tuple[str]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)


@final
@dataclass(frozen=True)
class Joined(Link):
    """Tensors of ours with `rows` rows each lie one behind the other in one tensor of theirs.

    A `depthwise` one, (channels, width) of ours, has a dimension of one input channel: (channels, 1, width).
    """

    ours: tuple[str, ...]
    theirs: tuple[str]
    rows: tuple[int, ...]
    depthwise: bool = False

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (joined,) = tensors
        return list(torch.split(joined.squeeze(1) if self.depthwise else joined, list(self.rows)))

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        joined = torch.cat(list(tensors))
        return [joined.unsqueeze(1) if self.depthwise else joined]


@final
@dataclass(frozen=True)
class Stacked(Link):
    """One tensor of ours holds equal ones of theirs along a new first dimension."""

    ours: tuple[str]
    theirs: tuple[str, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.stack(list(tensors))]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (stacked,) = tensors
        return list(stacked.unbind())
