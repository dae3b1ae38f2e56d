"""The one step loop: read, run, log, evaluate, save."""

import math
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
import torch.distributed as dist

from counterpoint.check.blame import walk_of
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed import BadPayload, Reader, StepInputs
from counterpoint.data.order import Exclusion
from counterpoint.data.prefetch import STEPS_AHEAD, Prefetcher
from counterpoint.errors import CounterpointError, RunError
from counterpoint.execute.groups import Groups
from counterpoint.execute.session import Session
from counterpoint.execute.whereabouts import Limit
from counterpoint.launch import SignalledError
from counterpoint.losses import LOSSES
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.samples import Document
from counterpoint.train.agree import agreed
from counterpoint.train.checkpoint import TrainingState
from counterpoint.train.engine import Engine, LaunchedStep, StepResult
from counterpoint.train.nonfinite import Finding, conclude, find_culprits, keep_exclusions, kept_exclusions
from counterpoint.train.saving import Resumption, Saver
from counterpoint.train.timing import StepTimer, write_timeline

_TIMED_STEP = 2
"""The step after start or resume whose actions are timed: warm, and early enough for short runs."""


class Listener(Protocol):
    """What hears of a run's progress, on every active rank."""

    def data(self, step: int, corpus: Corpus) -> None:
        """Training begins behind a step, on this data."""

    def resumed(self, resumption: Resumption) -> None:
        """The run goes on from a checkpoint, or starts anew."""

    def step(self, step: int, result: StepResult, inputs: StepInputs) -> None:
        """A training step ended."""

    def evaluation(self, step: int, split: str, loss: float) -> None:
        """An evaluation ended."""

    def bad(self, step: int, payloads: Sequence[BadPayload]) -> None:
        """Payloads could not be read; neutral content stood in for them."""

    def skipped(self, step: int, finding: Finding) -> None:
        """A training step was not finite and updated nothing."""


class Trainer:
    """Trains one plan on this rank from where its run folder left off."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        groups: Groups,
        corpus: Corpus,
        reader: Reader,
        recorder: Listener,
        saver: Saver,
        session: Session,
        timer: StepTimer,
    ) -> None:
        self._config, self._engine, self._groups, self._corpus = config, engine, groups, corpus
        self._reader, self._recorder, self._saver, self._session = reader, recorder, saver, session
        self._timer = timer
        self._signal: int | None = None
        self._stopped = False
        self._skipped_in_a_row = 0
        self._first = 0

    def run(self) -> None:
        """Train to `training.steps`; raises SignalledError after saving when a signal asked to stop."""
        self._session.watchdog.enter("resume", limit=self._session.checkpoint_limit)
        resumed = self._saver.resume(self._engine, self._enter_reading)
        state = resumed.state
        self._recorder.resumed(resumed)
        self._recorder.data(state.data_step, self._corpus)
        self._corpus = self._corpus.without(Exclusion(*entry) for entry in state.exclusions)
        self._corpus = self._corpus.without(self._kept_exclusions())
        feed = Prefetcher(self._read, state.data_step, self._config.training.steps, self._config.data.workers)
        with self._signals():
            try:
                self._steps(state, feed)
            finally:
                feed.close()

    def _steps(self, state: TrainingState, feed: Prefetcher) -> None:
        steps = self._config.training.steps
        self._first = state.data_step
        # What came before the first step is no work of it.
        self._engine.waits.take_busy()
        timed = min(state.data_step + _TIMED_STEP, steps - 1)
        upcoming: deque[StepInputs] = deque()
        launched: deque[tuple[int, StepInputs, LaunchedStep]] = deque()
        for step in range(state.data_step, steps):
            self._fill(upcoming, feed, step)
            inputs, ahead = upcoming[0], self._ahead_of(upcoming)
            self._engine.wants_stop = self._signal is not None
            launch = self._timed if step == timed else self._launch
            self._enter_step(step, inputs, ahead)
            launched.append((step, inputs, launch(step, inputs, ahead)))
            upcoming.popleft()
            # A GPU goes on with this step while the one before it is read.
            self._read_results(launched, but=1)
            self._saver.poll()
            done = step + 1
            is_saved = _due(done, self._config.checkpoint.every_steps) or done == steps or self._stopped
            is_evaluated = _due(done, self._config.evaluation.every_steps) or done == steps
            if is_saved or is_evaluated:
                self._read_results(launched)
            if is_saved:
                self._save(done)
            if is_evaluated and self._corpus.evaluation:
                self._evaluate(done)
            if self._stopped:
                if not is_saved:
                    self._save(done)
                break
        self._session.watchdog.enter("checkpoint", steps, self._session.checkpoint_limit)
        self._saver.finish()
        if self._stopped:
            raise SignalledError(self._signal or signal.SIGTERM)

    def _read_results(self, launched: deque[tuple[int, StepInputs, LaunchedStep]], but: int = 0) -> None:
        """Wait for all launched steps but the newest ones, and record them."""
        while len(launched) > but:
            step, inputs, pending = launched.popleft()
            self._session.watchdog.enter("results", step)
            with self._engine.waits:
                result = pending.outcome()
            if result.broken:
                self._skip(step, inputs, result.broken)
            else:
                self._skipped_in_a_row = 0
                self._recorder.step(step + 1, result, inputs)
            if result.bad:
                self._exclude(step, inputs)
            self._stopped = self._stopped or result.stop

    @property
    def _depth(self) -> int:
        """Steps that the modules furthest ahead are at before the others."""
        return max(self._engine.plan.stages.ahead.values(), default=0)

    def _fill(self, upcoming: deque[StepInputs], feed: Prefetcher, step: int) -> None:
        """Read up to the step that modules which run ahead are at; before the first step they catch up."""
        is_first = not upcoming
        while len(upcoming) <= self._depth and step + len(upcoming) < self._config.training.steps:
            self._session.watchdog.enter("reading", step + len(upcoming), self._first_limit(step))
            inputs = feed.next()
            self._check_agreement(inputs)
            upcoming.append(inputs)
            if is_first and len(upcoming) <= self._depth:
                self._enter_step(step - self._depth + len(upcoming) - 1, None, inputs)
                self._engine.run_ahead(inputs)

    def _enter_step(self, step: int, inputs: StepInputs | None, ahead: StepInputs | None) -> None:
        """Tell the watchdog that a step begins, and how the programs of all ranks are found out if it hangs."""
        plan = self._engine.plan
        batch, batch_ahead = (None if one is None else one.batch for one in (inputs, ahead))
        walk = partial(walk_of, plan, plan.schedule, batch, batch_ahead)
        self._session.watchdog.enter("training", step, self._first_limit(step), walk=walk)

    def _first_limit(self, step: int) -> Limit | None:
        """In the first step kernels are compiled and files opened."""
        return self._session.startup_limit if step <= self._first else None

    def _ahead_of(self, upcoming: deque[StepInputs]) -> StepInputs | None:
        """The inputs of the step that modules which run ahead are at; behind the last step there are none."""
        return upcoming[self._depth] if 0 < self._depth < len(upcoming) else None

    def _enter_reading(self, action: str) -> None:
        self._session.watchdog.enter("resume", limit=self._session.checkpoint_limit, part=action)

    def _save(self, done: int) -> None:
        self._session.watchdog.enter("checkpoint", done - 1, self._session.checkpoint_limit)
        self._saver.save(self._engine, done, tuple(self._corpus.order.exclusions))

    def _launch(self, _step: int, inputs: StepInputs, ahead: StepInputs | None) -> LaunchedStep:
        return self._engine.launch_step(inputs, ahead)

    def _timed(self, step: int, inputs: StepInputs, ahead: StepInputs | None) -> LaunchedStep:
        """A step whose actions are timed for the report."""
        self._timer.begin()
        launched = self._engine.launch_step(inputs, ahead)
        actions, group = self._timer.end(), self._groups.control
        assert group is not None, "only active ranks train"
        write_timeline(Path(self._config.run.dir), step + 1, actions, group, self._session.world.rank)
        return launched

    def _exclude(self, step: int, inputs: StepInputs) -> None:
        """All ranks learn which payloads were bad and leave those documents out, from the first step not yet read."""
        bad = self._gathered(inputs.bad)
        self._recorder.bad(step + 1, bad)
        self._corpus = self._corpus.without(Exclusion(p.source, p.index, self._first_unread(step)) for p in bad)

    def _first_unread(self, step: int) -> int:
        """The first step that is not being read while the results of `step` are looked at."""
        # By then the next one is launched, which has begun to read those ahead of it.
        return step + 1 + self._depth + STEPS_AHEAD + 1

    def _skip(self, step: int, inputs: StepInputs, broken: tuple[str, ...]) -> None:
        """Go on behind a step that was not finite, without the documents that are not finite by themselves; raises
        RunError behind more such steps in a row than `training.skip_nonfinite`.

        It updated nothing, so what was launched meanwhile is as if it had not been. All ranks find the same.
        """
        self._session.watchdog.enter("recomputing", step, self._session.checkpoint_limit)
        documents, sources = inputs.batch.documents, self._corpus.sources
        culprits = find_culprits(documents, self._is_finite)

        def is_next_finite() -> bool:
            return self._is_finite([document for pack in self._corpus.packs(step + 1) for document in pack])

        finding = conclude(self._engine.plan, inputs.batch, broken, culprits, is_next_finite, sources)
        self._engine.skipped += 1
        self._skipped_in_a_row += 1
        is_over = self._skipped_in_a_row > self._config.training.skip_nonfinite
        # The next start meets the steps behind its checkpoint again, this one among them.
        first = step if is_over else self._first_unread(step)
        self._corpus = self._corpus.without(Exclusion(d.source, d.index, first) for d in finding.excluded)
        if is_over:
            raise self._ended(step, finding)
        self._recorder.skipped(step + 1, finding)

    def _ended(self, step: int, finding: Finding) -> RunError:
        """What a run ends with in a step that was not finite, once all is written, on all ranks alike.

        What cannot be written is said after the finding, and never in its place.
        """
        # Once one rank has ended, all do, in the midst of whatever is being written.
        self._session.watchdog.enter("checkpoint", step, self._session.checkpoint_limit)
        sentences = [finding.sentence]
        record, keep = partial(self._recorder.skipped, step + 1, finding), partial(self._keep, finding)
        for write in (record, self._saver.finish, keep):
            try:
                agreed(self._groups.control, write)
            except CounterpointError as error:
                sentences.append(str(error))
        return RunError("; ".join(sentences))

    def _keep(self, finding: Finding) -> None:
        """Let the first rank keep what is left out for the next start."""
        if finding.excluded and self._is_leader:
            keep_exclusions(self._config, self._corpus.order.exclusions)

    def _is_finite(self, documents: Sequence[Document]) -> bool:
        """Whether the loss of some documents is finite, each in a pack of its own."""
        reader = replace(self._reader, with_mtp=False)
        batch = self._engine.plan.batch(0, tuple((document,) for document in documents))
        return math.isfinite(self._engine.evaluate_step(reader.read(batch)))

    @property
    def _is_leader(self) -> bool:
        return self._session.world.rank == self._engine.plan.placement.active[0]

    def _kept_exclusions(self) -> tuple[Exclusion, ...]:
        """What an earlier start found out before it failed, as the first rank sees it; all raise what it raises."""
        kept: list[tuple[Exclusion, ...] | CounterpointError] = [()]
        try:
            kept = [kept_exclusions(self._config) if self._is_leader else ()]
        except CounterpointError as error:
            kept = [error]
        dist.broadcast_object_list(kept, group=self._groups.control, group_src=0)
        if isinstance(kept[0], CounterpointError):
            raise kept[0]
        return kept[0]

    def _gathered(self, bad: Sequence[BadPayload]) -> list[BadPayload]:
        """The bad payloads of all ranks, each once."""
        gathered: list[Sequence[BadPayload]] = [()] * len(self._engine.plan.placement.active)
        dist.all_gather_object(gathered, bad, group=self._groups.control)
        return sorted({payload for payloads in gathered for payload in payloads}, key=lambda p: (p.source, p.index))

    def _read(self, step: int) -> StepInputs:
        return self._reader.read(self._engine.plan.batch(step, self._corpus.packs(step)))

    def _evaluate(self, step: int) -> None:
        """Read all evaluation splits, or leave them as soon as any rank was asked to stop."""
        for split in self._corpus.evaluation:
            reader = replace(self._reader, sources=split.sources, with_mtp=False)
            total, weights = 0.0, 0
            bad: list[BadPayload] = []
            for batch_number, packs in enumerate(split.batches()):
                self._enter_evaluation(step, split.name, batch_number, None)
                self._stopped = self._stopped or self._is_stop_wanted()
                if self._stopped:
                    return
                batch = self._engine.plan.batch(batch_number, packs)
                inputs = reader.read(batch)
                self._enter_evaluation(step, split.name, batch_number, batch)
                loss = self._engine.evaluate_step(inputs)
                weight = LOSSES[self._engine.plan.loss].denominator(batch)
                total, weights = total + loss * weight, weights + weight
                bad += (replace(payload, reason=f"evaluation {split.name}: {payload.reason}") for payload in inputs.bad)
            self._recorder.bad(step, self._gathered(bad))
            self._recorder.evaluation(step, split.name, total / max(weights, 1))

    def _enter_evaluation(self, step: int, name: str, number: int, batch: BatchPlan | None) -> None:
        """Tell the watchdog which batch of an evaluation is read, or computed."""
        plan = self._engine.plan
        walk = None if batch is None else partial(walk_of, plan, plan.evaluation, batch, None)
        limit = None if number else self._session.startup_limit
        self._session.watchdog.enter("evaluation", step, limit, batch=number, part=name, walk=walk)

    def _is_stop_wanted(self) -> bool:
        """Whether any rank was asked to stop; all ranks ask together, so that none leaves alone."""
        wish = torch.tensor([self._signal is not None], dtype=torch.int64)
        dist.all_reduce(wish, dist.ReduceOp.MAX, group=self._groups.control)
        return bool(wish)

    def _check_agreement(self, inputs: StepInputs) -> None:
        """All ranks compare the digest of the plan before the step."""
        digest = inputs.batch.digest()
        bounds = torch.tensor([digest, -digest])
        with self._engine.waits:
            dist.all_reduce(bounds, dist.ReduceOp.MAX, group=self._groups.control)
        if int(bounds[0]) != -int(bounds[1]):
            raise RunError(
                f"step {inputs.batch.step}: ranks planned different batches (digests {-int(bounds[1])} to "
                f"{int(bounds[0])}), expected one; check that all machines read the same dataset files and config"
            )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to stop after the current step.

        After an error they stay without effect: whoever ends this rank because of another still hears its reason.
        """

        def note(number: int, _frame: FrameType | None) -> None:
            self._signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)


def _due(step: int, every: int | None) -> bool:
    return every is not None and every > 0 and step % every == 0
