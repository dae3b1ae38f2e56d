"""A rank's position: the phase, the step, the action of its program, and the action that its device has reached."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from counterpoint.check.blame import Position, Program, Walk
from counterpoint.plan.action import Action

Calls = Callable[[], Mapping[str, int]]
"""Number of collectives that this rank has begun, by communicator."""

_KEPT_PROGRAMS = 3
"""Hosts that work ahead of their devices are at most two programs further."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long an action may take, and the key of the config that says so."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    step: int | None
    batch: int | None
    part: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class _At:
    """The main thread's current action, replaced as a whole, so that any thread may read it."""

    phase: _Phase
    index: int | None
    action: Action | None
    since: float


class Whereabouts:
    """Written by the main thread, read by the watchdog's; `usual` is the limit of phases without one of their own."""

    def __init__(self, usual: Limit) -> None:
        self._usual = usual
        self._calls: Calls = dict
        self._device: DeviceMarks | None = None
        self._walks: deque[tuple[Program, Callable[[], Walk]]] = deque(maxlen=_KEPT_PROGRAMS)
        self.enter("start-up")

    def watch(self, calls: Calls, device: torch.device) -> None:
        """Begin to count collectives, and on CUDA to mark the actions that the device reaches."""
        self._calls = calls
        self._device = DeviceMarks() if device.type == "cuda" else None

    def enter(
        self,
        phase: str,
        step: int | None = None,
        limit: Limit | None = None,
        *,
        batch: int | None = None,
        part: str = "",
        walk: Callable[[], Walk] | None = None,
    ) -> None:
        """Note that a phase begins, in which each action may take as long as `limit` says.

        `walk` gives the programs of all ranks in it, if there are any.
        """
        if walk is not None:
            self._walks.append(((phase, step, batch), walk))
        limit = self._usual if limit is None else limit
        self._at = _At(_Phase(phase, step, batch, part, limit), None, None, time.monotonic())

    def observe(self, action: Action) -> None:
        """Note that the next action of the phase's program begins."""
        at = self._at
        index = 0 if at.index is None else at.index + 1
        self._at = _At(at.phase, index, action, time.monotonic())
        if self._device is not None:
            self._device.mark((at.phase.name, at.phase.step, at.phase.batch), index, action)

    @property
    def limit(self) -> Limit:
        """The limit of the rank's current action."""
        return self._at.phase.limit

    @property
    def since(self) -> float:
        """When the rank's current action began, by `time.monotonic`."""
        return self._at.since

    @property
    def left(self) -> float:
        """Seconds until that limit is passed."""
        at = self._at
        return at.since + at.phase.limit.seconds - time.monotonic()

    @property
    def position(self) -> Position:
        """The rank's position now, with its device's where that lags the host."""
        return self._position(None if self._device is None else self._device.reached())

    @property
    def host(self) -> Position:
        """The position of the main thread, which is where it fails."""
        return self._position(None)

    def _position(self, mark: "_Mark | None") -> Position:
        at, now = self._at, time.monotonic()
        phase, action = at.phase, at.action if mark is None else mark.action
        return Position(
            phase.name,
            phase.step,
            phase.batch,
            phase.part,
            "" if action is None else str(action),
            at.index,
            None if mark is None else mark.index,
            None if mark is None else mark.program,
            dict(self._calls()),
            now - at.since,
            at.since + phase.limit.seconds - now,
            phase.limit.key,
        )

    @property
    def walks(self) -> dict[Program, Walk]:
        """The programs of the last phases that had any; computed here."""
        return {program: walk() for program, walk in tuple(self._walks)}


@dataclass(frozen=True, slots=True)
class _Mark:
    program: Program
    index: int
    action: Action
    event: torch.cuda.Event


class DeviceMarks:
    """Events on the current stream, one before each action; those that are complete tell where the device is."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self._lock = threading.Lock()

    def mark(self, program: Program, index: int, action: Action) -> None:
        """Record that an action begins; the host does not wait, and events are used again."""
        with self._lock:
            free = None
            if len(self._marks) > 1 and self._marks[1].event.query():  # type: ignore[no-untyped-call]
                free = self._marks.popleft().event
        event = torch.cuda.Event() if free is None else free  # type: ignore[no-untyped-call]
        event.record()
        with self._lock:
            self._marks.append(_Mark(program, index, action, event))

    def reached(self) -> _Mark | None:
        """The last action whose beginning the device has reached, whether or not it has finished it.

        If it has reached none, the first that is marked; None before any is marked.
        """
        with self._lock:
            marks = tuple(self._marks)
        begun = [mark for mark in marks if mark.event.query()]  # type: ignore[no-untyped-call]
        if begun:
            return begun[-1]
        return marks[0] if marks else None
