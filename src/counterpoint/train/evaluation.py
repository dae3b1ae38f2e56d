"""Evaluation of a run's splits during training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from counterpoint.check.blame import walk_of
from counterpoint.data.corpus import EvaluationSplit
from counterpoint.data.feed.reader import BadPayload
from counterpoint.losses import MAIN_LOSSES
from counterpoint.plan.batch import BatchPlan
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.further import further_denominators
from counterpoint.train.run_data import gathered_bad


class Evaluator:
    """Evaluates splits and records their mean losses; all ranks of the plan call it together."""

    def __init__(self, rank: ActiveRank) -> None:
        self._engine, self._groups, self._reader = rank.engine, rank.groups, rank.reader
        self._recorder, self._session = rank.recorder, rank.session

    def run(
        self, step: int, splits: Sequence[EvaluationSplit], is_stopped: Callable[[], bool]
    ) -> list[tuple[str, float]]:
        """Evaluate all splits; returns the mean loss of each split that was completed.

        All ranks call `is_stopped` before each batch, and end the evaluation as soon as it is true.
        """
        plan = self._engine.plan
        losses: list[tuple[str, float]] = []
        for split in splits:
            reader = replace(self._reader, sources=split.sources, with_mtp=False)
            total, weights = 0.0, 0
            further: dict[str, tuple[float, int]] = {}
            bad: list[BadPayload] = []
            for batch_number, packs in enumerate(split.batches()):
                self._enter(step, split.name, batch_number, None)
                if is_stopped():
                    return losses
                batch = plan.batch(batch_number, packs)
                inputs = reader.read(batch)
                self._enter(step, split.name, batch_number, batch)
                found, weight = self._engine.evaluate_step(inputs), MAIN_LOSSES[plan.loss].denominator(batch)
                total, weights = total + found.loss * weight, weights + weight
                for name, number in further_denominators(plan, batch).items():
                    before, numbers = further.get(name, (0.0, 0))
                    further[name] = before + found.further[name] * number, numbers + number
                bad += (replace(payload, reason=f"evaluation {split.name}: {payload.reason}") for payload in inputs.bad)
            self._recorder.bad(step, gathered_bad(self._groups.control, bad))
            means = {name: value / max(number, 1) for name, (value, number) in further.items()}
            losses.append((split.name, total / max(weights, 1)))
            self._recorder.evaluation(step, *losses[-1], means)
        return losses

    def _enter(self, step: int, name: str, number: int, batch: BatchPlan | None) -> None:
        """Tell the watchdog which batch of an evaluation is being read or computed."""
        plan = self._engine.plan
        walk = None if batch is None else partial(walk_of, plan, plan.evaluation, batch, None)
        limit = None if number else self._session.startup_limit
        self._session.watchdog.enter("evaluation", step, limit, batch=number, part=name, walk=walk)
