"""The watchdog: ends a rank that makes no progress, or whose peer failed, and finds the rank that is the cause."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from counterpoint.check.blame import Position, Positions, Verdict, find_origin
from counterpoint.execute.failure import Failure, FailureBoard, Trouble, is_heard, report
from counterpoint.execute.rank_log import OWN
from counterpoint.execute.rollcall import RollCall
from counterpoint.execute.sentences import hang_failure, lost_failure
from counterpoint.execute.whereabouts import Calls, Limit, Whereabouts

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 2.0
"""How long a rank waits before it leaves, so that all others can write their stacks and the first error its report."""
_ANSWER_SECONDS = 10.0
"""How long a rank may take to publish its position before it counts as frozen; its watchdog looks twice a second."""
_VERDICT_SECONDS = 600.0
"""How long the calling rank may take to find the origin, not answering meanwhile: it expands the programs of thousands
of ranks, which takes minutes. Others wait this long only if the calling rank is gone."""


class Watchdog:
    """Watches one process; `enter` and `observe` say what it does now and how long that may take.

    When the limit of an action passes, or a peer is lost, all ranks publish their positions, and one of them finds the
    origin. After a hang every rank writes `hang-rank<r>.txt` into `folder`: its action, the ranks that it waits for,
    and all stacks.
    """

    def __init__(self, rank: int, timeout_seconds: float, folder: Path, board: FailureBoard) -> None:
        self._rank, self._folder, self._board = rank, folder, board
        self._whereabouts = Whereabouts(Limit("watchdog.timeout_seconds", timeout_seconds))
        self.enter, self.observe = self._whereabouts.enter, self._whereabouts.observe
        self._members: Mapping[str, tuple[int, ...]] = {}
        self._watched: tuple[int, ...] = ()
        self._roll = RollCall(board.store, rank, lambda: self._whereabouts.position)
        self._patience = (0.0, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def watched(self) -> tuple[int, ...]:
        """The ranks that depend on each other, in the order of their groups; empty before these are made."""
        return self._watched

    @property
    def host(self) -> Position:
        """The position of the main thread."""
        return self._whereabouts.host

    def watch(
        self, ranks: tuple[int, ...], members: Mapping[str, tuple[int, ...]], calls: Calls, device: torch.device
    ) -> None:
        """Watch ranks that depend on each other: `members` of communicators, on which `calls` counts operations."""
        self._watched, self._members = ranks, members
        self._whereabouts.watch(calls, device)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch; the process is about to leave in order."""
        self._stop.set()
        self._thread.join()

    def lost(self, error: BaseException) -> Failure | None:
        """The lost ranks, after this rank lost a connection; None if all answer, or another rank reports it."""
        if not self._watched:
            return self._heard(_ANSWER_SECONDS + _GRACE_SECONDS)
        for _attempt in range(2):
            number = self._roll.call()
            if number is not None:
                positions = self._roll.gather(number, self._watched, _ANSWER_SECONDS / 2)
                verdict = self._verdict(number, positions)
                return lost_failure(self._rank, error, positions, verdict) if verdict.kind == "absent" else None
            failure = self._heard(_ANSWER_SECONDS + _GRACE_SECONDS)
            if failure is not None:
                return failure
            # The rank that called before is gone by now itself, or asked while the lost one still answered.
        return None

    def _heard(self, seconds: float) -> Failure | None:
        now = time.monotonic()
        deadline, latest = now + seconds, now + _VERDICT_SECONDS
        while time.monotonic() < (latest if self._is_patient() else deadline):
            failure = self._board.first()
            if failure is not None:
                return failure
            time.sleep(_POLL_SECONDS)
        return None

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            # Once the launcher has ended, the store is gone.
            with suppress(RuntimeError):
                self._look()
            if self._is_overdue():
                self._suspect()

    def _look(self) -> None:
        failure = self._board.first()
        if failure is not None and failure.teller != self._rank:
            self._leave_after(failure)
        if self._watched and self._roll.answer():
            # The rank that called decides; this rank gives it the time to.
            self._be_patient(_ANSWER_SECONDS + _GRACE_SECONDS)
        granted = self._roll.granted()
        if granted is not None:
            self._patience = (self._whereabouts.since, time.monotonic() + granted)

    def _is_overdue(self) -> bool:
        return self._whereabouts.left < 0 and not self._is_patient()

    def _is_patient(self) -> bool:
        since, until = self._patience
        # Patience ends with the action that it was granted for: a rank that goes on has what it waited for.
        return since == self._whereabouts.since and time.monotonic() < until

    def _be_patient(self, seconds: float) -> None:
        since, until = self._patience
        now = self._whereabouts.since
        self._patience = (now, max(until if since == now else 0.0, time.monotonic() + seconds))

    def _suspect(self) -> None:
        """Find the rank that is stuck; all ranks wait on if it has time left."""
        position = self._whereabouts.position
        alone = Verdict((self._rank,), "working", {})
        positions: Mapping[int, Position | None] = {self._rank: position}
        verdict = alone
        # Whatever keeps it from finding the origin must not keep a hang from ending.
        with suppress(Exception):
            if self._watched:
                number = self._roll.call()
                if number is None:
                    self._be_patient(_ANSWER_SECONDS + _GRACE_SECONDS)
                    return
                positions = self._roll.gather(number, self._watched, _ANSWER_SECONDS)
                verdict = self._verdict(number, positions)
                origin = positions[verdict.origins[0]]
                if verdict.kind == "working" and origin is not None and origin.left > 0:
                    patience = origin.left + _POLL_SECONDS
                    self._roll.grant(number, patience)
                    self._be_patient(patience)
                    return
        self._hang(hang_failure(self._rank, self._whereabouts.limit, positions, verdict, self._folder))

    def _verdict(self, number: int, positions: Positions) -> Verdict:
        """The origin; other ranks grant this one time, so that they do not take it for one that does not answer."""
        self._roll.grant(number, _VERDICT_SECONDS)
        return find_origin(positions, self._members, self._whereabouts.walks)

    def _hang(self, failure: Failure) -> None:
        stands = failure
        with suppress(RuntimeError):
            stands = self._board.announce(failure)
        if stands == failure:
            report(failure, self._folder, is_heard())
        self._leave_after(stands)

    def _leave_after(self, failure: Failure) -> None:
        if failure.kind == Trouble.HANG:
            self._dump(failure)
        if self._stop.wait(_GRACE_SECONDS):
            return
        sys.stderr.flush()
        os._exit(failure.exit_code)

    def _dump(self, failure: Failure) -> None:
        waits = failure.waits.get(str(self._rank), "")
        header = f"rank {self._rank} stands in {self._whereabouts.position}{waits and f' and waits for {waits}'}\n"
        # A full disk must not keep this thread from ending the process.
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"hang-rank{self._rank}.txt").open("w") as file:
                file.write(header)
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        OWN.error("%s; the stacks of its threads are in hang-rank%d.txt", header.rstrip(), self._rank)
        sys.stderr.write(header)
        sys.stderr.flush()
