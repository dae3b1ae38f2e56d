"""Rows to their experts and back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shipment:
    """Rows on their way: int64 `counts` (experts here,) of the rows that each expert of this process gets."""

    counts: Tensor


class Dispatch(nn.Module, ABC):
    """Sends rows that are sorted by expert to where the experts are, and brings the answers back.

    `announce` may start what `send` needs; work that is done between them overlaps with it.
    """

    @abstractmethod
    def announce(self, counts: Tensor) -> Shipment:
        """Say how many rows each of all experts gets, int64 (experts,)."""

    @abstractmethod
    def send(self, rows: Tensor, shipment: Shipment) -> Tensor:
        """Rows (rows, hidden) sorted by expert -> the rows of the experts here, sorted by expert."""

    @abstractmethod
    def bring(self, rows: Tensor, shipment: Shipment) -> Tensor:
        """The way back, of the experts' answers."""


@final
class LocalDispatch(Dispatch):
    """All experts are in this process: rows stay where they are."""

    def announce(self, counts: Tensor) -> Shipment:
        return Shipment(counts)

    def send(self, rows: Tensor, shipment: Shipment) -> Tensor:  # noqa: ARG002
        return rows

    def bring(self, rows: Tensor, shipment: Shipment) -> Tensor:  # noqa: ARG002
        return rows
