"""What a recorder is: something that keeps or shows what a run does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from counterpoint.config.training import LogConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known once a run has trained `step` steps: `values` for programs, as plain data, the rest for people.

    `words` are an event, which stays in sight; `status` says how training goes, in phrases of which the most important
    come first, until the next status takes its place. Any of them may be empty: every step has a record. Words about
    the whole run are not `of_step`.
    """

    step: int
    values: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    status: tuple[str, ...] = ()
    of_step: bool = True


class Recorder(Protocol):
    """Hears of all records of a run in their order, in the process of the first rank alone."""

    def record(self, record: Record) -> None:
        """Keep or show a record."""

    def close(self) -> None:
        """The run ends here."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A run to record: its folder, all steps that it is to train, and whether it goes on in what is there."""

    folder: Path
    steps: int
    goes_on: bool


def _always(_log: LogConfig) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RecorderKind:
    """A kind of recorder: what opens one, and which configs want it."""

    open: Callable[[Recording], Recorder]
    is_wanted: Callable[[LogConfig], bool] = _always
