"""Curves for TensorBoard."""

from collections.abc import Iterator, Mapping
from typing import Any

from counterpoint.config.training import LogConfig
from counterpoint.recorders.kind import Record, Recording


class TensorBoard:
    """Draws a curve of every number that belongs to a step."""

    def __init__(self, recording: Recording) -> None:
        # It takes seconds to import, and other processes never write.
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(recording.folder / "tensorboard"))

    def record(self, record: Record) -> None:
        for name, value in _scalars(record.values):
            self._board.add_scalar(name, value, record.step)

    def close(self) -> None:
        self._board.close()


def is_wanted(log: LogConfig) -> bool:
    """Whether a config asks for curves."""
    return log.tensorboard


def _scalars(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if "evaluation" in values:
        yield f"evaluation/{values['evaluation']}/loss", values["loss"]
    elif "why" not in values and "data" not in values:
        yield from _numbers(values, "")


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)
