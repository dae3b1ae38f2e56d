"""What the clock and the memory model say of a candidate: the one file that asks them."""

from dataclasses import dataclass
from typing import final

from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.plan.plan import Plan
from counterpoint.search.candidate import Candidate, config_of
from counterpoint.search.models import Models
from counterpoint.search.workload import Steps
from counterpoint.setup.plan import lay_out
from counterpoint.simulate.estimate import estimate
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
        batches = [plan.batch(number, packs) for number, packs in enumerate(self.steps)]
        found = estimate(plan, self.hardware, batches, self.models.execution, _EXACT_RANKS)
        return Score(found.seconds, found.utilisation, found.bubble, found.memory_bytes, found.breakdown)


_EXACT_RANKS = 8
"""Ranks up to which a candidate's ranks are all played, in larger worlds one for all that do the same."""
