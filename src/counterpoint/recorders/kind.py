"""What a recorder is: something that keeps or shows what a run does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from counterpoint.kinds.named import named
from counterpoint.section.section import Section


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
    """Hears of all records of a run in their order, in the process of the first rank alone.

    What it raises is said once, and ends no training.
    """

    def record(self, record: Record) -> None:
        """Keep or show a record."""

    def close(self, is_finished: bool) -> None:
        """The run ends here, after its last step or before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A run to record: its folder, all steps that it is to train, and whether it goes on in what is there.

    `name` tells a recorder from others of the same kind. `config` has all keys of the run's config. `say` writes a line
    for people. At the end of the run what is remote is waited for, for `patience_seconds` at most.
    """

    folder: Path
    steps: int
    goes_on: bool
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _words: None
    patience_seconds: float = 60.0


class RecorderSection(Section):
    """What the sections of all recorders have: the kind."""

    kind: str
    """What records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderKind:
    """A kind of recorder: its section, and the place, `package.module:name`, of what opens one of a section and a
    recording.

    `needs` are modules of other distributions that it imports; a run that lacks one is refused before it starts, with
    the remedy `install`. What is `remote` waits for others, so it has a thread of its own, on which it is opened,
    called and closed.
    """

    section: type[RecorderSection]
    open_with: str
    needs: tuple[str, ...] = ()
    install: str = ""
    is_remote: bool = False

    def open(self, section: RecorderSection, recording: Recording) -> Recorder:
        """The recorder of a section, for a run."""
        recorder: Recorder = named(self.open_with)(section, recording)
        return recorder
