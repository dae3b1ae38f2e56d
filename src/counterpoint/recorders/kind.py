"""The interface of recorders, which store or show what a run does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from counterpoint.kinds.named import named
from counterpoint.section.section import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of a run after `step` steps.

    `values` are plain data for programs. `words` describe an event, which stays visible; if it concerns the whole run,
    `of_step` is false. `status` are the phrases of the step line, the most important first; the next status replaces
    them. Each may be empty: there is a record for every step.
    """

    step: int
    values: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    status: tuple[str, ...] = ()
    of_step: bool = True


class Recorder(Protocol):
    """Receives all records of a run in order, only in the process of the first active rank.

    Exceptions are reported once, and do not end the training.
    """

    def record(self, record: Record) -> None:
        """Keep or show a record."""

    def close(self, is_finished: bool) -> None:
        """End recording; `is_finished` if the run trained its last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The run to record: its folder, its number of steps, and whether it resumes (`goes_on`).

    `name` distinguishes recorders of the same kind. `config` has all keys of the run's config. `say` prints a line. The
    end of the run waits for remote recorders at most `patience_seconds`.
    """

    folder: Path
    steps: int
    goes_on: bool
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _words: None
    patience_seconds: float = 60.0


class RecorderSection(Section):
    """The base of the sections of recorders."""

    kind: str
    """The kind of recorder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderKind:
    """A kind of recorder.

    `open_with` is a string `package.module:name` that names a function of (section, recording) that returns a recorder.
    `needs` are Python modules that it imports; if one is missing, the run is refused before it starts, with the remedy
    `install`. A recorder that `is_remote` talks to a server, so it is opened, called and closed in its own thread.
    """

    section: type[RecorderSection]
    open_with: str
    needs: tuple[str, ...] = ()
    install: str = ""
    is_remote: bool = False

    def open(self, section: RecorderSection, recording: Recording) -> Recorder:
        """Open the recorder of a section for a run."""
        recorder: Recorder = named(self.open_with)(section, recording)
        return recorder
