"""What the clock and the memory model say of a candidate: the one file that asks them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.search.candidate import Candidate, config_of
from counterpoint.search.models import Models
from counterpoint.search.workload import Steps
from counterpoint.setup.plan import lay_out
from counterpoint.simulate.estimate import play
from counterpoint.simulate.figures import StepFigures, mean_figures, step_figures
from counterpoint.simulate.played import Breakdown


@final
@dataclass(frozen=True, slots=True)
class Score:
    """A step of a plan as the clock plays it: mean seconds, the share of the peak that the model's FLOPs reach, the
    share of all ranks' time that they wait for each other's work, and the bytes of the fullest rank.

    `breakdown` adds up to the seconds: what the mean rank does in them.
    """

    seconds: float
    utilisation: float
    bubble: float
    memory_bytes: int
    breakdown: Breakdown


@final
@dataclass(frozen=True, slots=True)
class Scorer:
    """Plays candidates of some models on a world and a machine, with the drawn steps."""

    models: Models
    world_size: int
    hardware: Hardware
    steps: Steps

    def plan(self, candidate: Candidate) -> Plan:
        """The plan of a candidate; raises PlacementError or ConfigError."""
        return lay_out(self.config(candidate), self.models.described)

    def config(self, candidate: Candidate) -> Config:
        """The config of a candidate."""
        return config_of(self.models.config, self.world_size, candidate)

    def score(self, plan: Plan) -> Score:
        """What a plan's step takes on average; raises ProofError, or InputError for hardware that lacks figures."""
        return score_of(self.figures(plan, range(len(self.steps))))

    def figures(self, plan: Plan, steps: Iterable[int]) -> list[StepFigures]:
        """What some of the drawn steps take, by their number; raises what `score` does."""
        return [self._figures(plan, plan.batch(step, self.steps[step])) for step in steps]

    def _figures(self, plan: Plan, batch: BatchPlan) -> StepFigures:
        played = play(plan, self.hardware, batch, self.models.execution, _EXACT_RANKS)
        return step_figures(plan, self.hardware, batch, played)


def score_of(steps: Sequence[StepFigures]) -> Score:
    """The mean of steps of one plan."""
    mean = mean_figures(steps)
    return Score(mean.seconds, mean.utilisation, mean.bubble, mean.memory_bytes, mean.breakdown)


_EXACT_RANKS = 8
"""Ranks up to which a candidate's ranks are all played, in larger worlds one for all that do the same."""
