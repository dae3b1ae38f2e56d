"""The one step loop: read, run, log, evaluate, save."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import final

from counterpoint.check.blame import walk_of
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.reader import StepInputs
from counterpoint.errors import RunError
from counterpoint.execute.whereabouts import Limit
from counterpoint.garbage import Garbage, spared
from counterpoint.launch import RESUME, SignalledError
from counterpoint.parallelize.compile import CompileClock, compilations
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.callbacks import Callback
from counterpoint.train.engine import LaunchedStep
from counterpoint.train.evaluation import Evaluator
from counterpoint.train.metrics.compiled import Compiled
from counterpoint.train.metrics.timing import StepTimer, TimedStep, Timelines
from counterpoint.train.run_data import RunData
from counterpoint.train.signals import StopSignals
from counterpoint.train.state.checkpoint import TrainingState
from counterpoint.train.told import Callbacks

_SETTLED = 2
"""The step after start or resume by whose end everything that stays has been made."""


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """The number of steps of a run, and the intervals at which it saves and evaluates (None: only at the end).

    The actions of the steps `timed`, counted from 1 since start or resume, are timed.
    """

    steps: int
    save_every: int | None
    evaluate_every: int | None
    timed: tuple[int, ...] = ()

    def is_timed(self, step: int, first: int) -> bool:
        """Whether a step is timed in a run that starts with step `first`; a short run times its last step."""
        return any(min(first + number, self.steps) - 1 == step for number in self.timed)

    def is_saved(self, done: int) -> bool:
        """Whether the run saves after step `done`."""
        return done == self.steps or _due(done, self.save_every)

    def is_evaluated(self, done: int) -> bool:
        """Whether the run evaluates after step `done`."""
        return done == self.steps or _due(done, self.evaluate_every)


class Trainer:
    """Trains one plan on this rank, resuming from its run folder."""

    def __init__(
        self, rank: ActiveRank, data: RunData, pace: Pace, timer: StepTimer, callbacks: Sequence[Callback] = ()
    ) -> None:
        self._rank, self._data, self._pace, self._timer = rank, data, pace, timer
        self._engine, self._groups, self._session = rank.engine, rank.groups, rank.session
        self._recorder, self._saver = rank.recorder, rank.saver
        self._evaluator = Evaluator(rank)
        self._signals = StopSignals()
        self._callbacks = Callbacks(callbacks, rank.run, rank.session.world.rank, pace.steps, self._signals.ask)
        self._stopped = False
        self._first = 0
        self._marked: dict[int, TimedStep] = {}
        assert self._groups.control is not None, "only active ranks train"
        self._timelines = Timelines(rank.run, timer.device, self._groups.control, rank.session.world.rank)
        self._engine.tell_arrivals(timer.arrived)

    def run(self) -> None:
        """Train to the last step, or until a callback requests a stop; raises SignalledError after a signal.

        A run that is stopped saves a checkpoint first.
        """
        self._session.watchdog.enter("resume", limit=self._session.checkpoint_limit)
        resumed = self._saver.resume(self._engine, self._enter_reading)
        state = resumed.state
        self._recorder.resumed(resumed)
        self._recorder.data(state.data_step, self._data.corpus)
        self._data.resume(state)
        feed = self._data.feed(state.data_step, self._pace.steps)
        with self._signals.listening(), spared() as garbage:
            try:
                self._steps(state, feed, garbage)
            finally:
                feed.close()

    def _steps(self, state: TrainingState, feed: Prefetcher, garbage: Garbage) -> None:
        steps = self._pace.steps
        self._first = state.data_step
        # Time before the first step does not count for that step.
        self._engine.waits.take_busy()
        settled = min(state.data_step + _SETTLED, steps - 1)
        upcoming: deque[StepInputs] = deque()
        launched: deque[tuple[int, StepInputs, LaunchedStep]] = deque()
        for step in range(state.data_step, steps):
            self._fill(upcoming, feed, step)
            inputs, ahead = upcoming[0], self._ahead_of(upcoming)
            launch = self._timed if self._pace.is_timed(step, self._first) else self._launch
            self._enter_step(step, inputs, ahead)
            with self._compiling(step):
                launched.append((step, inputs, launch(step, inputs, ahead)))
            if step == settled:
                garbage.set_aside()
            upcoming.popleft()
            # The GPU computes this step while the results of the one before are read.
            self._read_results(launched, but=1)
            self._saver.poll()
            self._tell_saved()
            done = step + 1
            is_saved = self._pace.is_saved(done) or self._stopped
            is_evaluated = self._pace.is_evaluated(done)
            if is_saved or is_evaluated:
                self._read_results(launched)
                with self._apart():
                    self._finish_step(done, is_saved=is_saved, is_evaluated=is_evaluated)
            if self._stopped:
                if not is_saved:
                    self._save(done)
                break
        self._session.watchdog.enter("checkpoint", steps, self._session.checkpoint_limit)
        self._saver.finish()
        self._tell_saved()
        if self._stopped and self._signals.heard_anywhere(self._groups.control):
            raise SignalledError(self._signals.heard or signal.SIGTERM, RESUME)

    def _finish_step(self, done: int, *, is_saved: bool, is_evaluated: bool) -> None:
        if is_saved:
            self._save(done)
        if is_evaluated:
            for split, loss in self._evaluator.run(done, self._data.corpus.evaluation, self._is_stopped):
                self._callbacks.evaluation(done, split, loss)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Work between two steps, whose time is not theirs."""
        began = time.perf_counter()
        with self._engine.waits.paused():
            yield
        self._recorder.leave_out(time.perf_counter() - began)

    @contextmanager
    def _compiling(self, step: int) -> Iterator[None]:
        """Launch a step; of the first one, record afterwards what it has compiled."""
        compiled = self._engine.compiled if step == self._first else None
        if compiled is None:
            yield
            return
        clock, before = CompileClock(), compilations()
        with clock.running():
            yield
        self._recorder.compiled(step + 1, Compiled(compiled, compilations() - before, clock.seconds))

    def _read_results(self, launched: deque[tuple[int, StepInputs, LaunchedStep]], but: int = 0) -> None:
        """Wait for all launched steps except the newest `but` ones, and record them."""
        while len(launched) > but:
            step, inputs, pending = launched.popleft()
            self._session.watchdog.enter("results", step)
            with self._engine.waits:
                result = pending.outcome()
            if result.broken:
                self._data.skip(step, inputs, result.broken)
            else:
                self._data.go_on()
                self._recorder.step(step + 1, result, inputs)
                self._callbacks.step(step + 1, result)
            if result.bad:
                self._data.exclude_bad(step, inputs)
            if (marked := self._marked.pop(step, None)) is not None:
                self._timelines.add(step + 1, marked)
            self._stopped = self._stopped or result.stop

    def _fill(self, upcoming: deque[StepInputs], feed: Prefetcher, step: int) -> None:
        """Read up to the step that run-ahead modules compute; before the first step, compute their earlier ones."""
        is_first = not upcoming
        while len(upcoming) <= self._data.depth and step + len(upcoming) < self._pace.steps:
            self._session.watchdog.enter("reading", step + len(upcoming), self._first_limit(step))
            inputs = feed.next()
            self._check_agreement(inputs)
            upcoming.append(inputs)
            if is_first and len(upcoming) <= self._data.depth:
                self._enter_step(step - self._data.depth + len(upcoming) - 1, None, inputs)
                self._engine.run_ahead(inputs)

    def _enter_step(self, step: int, inputs: StepInputs | None, ahead: StepInputs | None) -> None:
        """Tell the watchdog that a step begins, and how to derive the programs of all ranks if it hangs."""
        plan = self._engine.plan
        batch, batch_ahead = (None if one is None else one.batch for one in (inputs, ahead))
        walk = partial(walk_of, plan, plan.schedule, batch, batch_ahead)
        self._session.watchdog.enter("training", step, self._first_limit(step), walk=walk)

    def _first_limit(self, step: int) -> Limit | None:
        """The longer limit of the first step, in which kernels are compiled and files opened; else None."""
        return self._session.startup_limit if step <= self._first else None

    def _ahead_of(self, upcoming: deque[StepInputs]) -> StepInputs | None:
        """The inputs of the step that run-ahead modules compute; None after the last step."""
        return upcoming[self._data.depth] if 0 < self._data.depth < len(upcoming) else None

    def _is_stopped(self) -> bool:
        """Whether the run ends after this step; a collective of all ranks."""
        self._stopped = self._stopped or self._signals.is_wanted_anywhere(self._groups.control)
        return self._stopped

    def _enter_reading(self, action: str) -> None:
        self._session.watchdog.enter("resume", limit=self._session.checkpoint_limit, part=action)

    def _save(self, done: int) -> None:
        self._session.watchdog.enter("checkpoint", done - 1, self._session.checkpoint_limit)
        self._saver.save(self._engine, done, tuple(self._data.corpus.order.exclusions))

    def _tell_saved(self) -> None:
        for step, checkpoint in self._saver.take_published():
            self._callbacks.saved(step, checkpoint)

    def _launch(self, _step: int, inputs: StepInputs, ahead: StepInputs | None) -> LaunchedStep:
        return self._engine.launch_step(inputs, ahead, wants_stop=self._signals.is_wanted)

    def _timed(self, step: int, inputs: StepInputs, ahead: StepInputs | None) -> LaunchedStep:
        """Launch a step and time its actions, which are read with its results."""
        self._timer.begin()
        launched = self._launch(step, inputs, ahead)
        self._marked[step] = self._timer.end()
        return launched

    def _check_agreement(self, inputs: StepInputs) -> None:
        """Compare the digest of the batch plan on all ranks before the step; raises RunError if they differ."""
        digest, tree = inputs.batch.digest(), self._groups.control
        assert tree is not None, "only active ranks train"
        with self._engine.waits:
            largest, smallest_negated = tree.maximum(digest, -digest)
        if largest != -smallest_negated:
            raise RunError(
                f"step {inputs.batch.step}: ranks planned different batches (digests {-smallest_negated} to "
                f"{largest}), expected one; check that all machines read the same dataset files and config"
            )


def _due(step: int, every: int | None) -> bool:
    return every is not None and every > 0 and step % every == 0
