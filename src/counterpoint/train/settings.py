"""What an engine is told of how a run trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoint.config.training import TrainingConfig
from counterpoint.losses.kind import LossSection
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.plan.trainability import Train


@final
@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What decides, beside plan and models, the values that an engine computes.

    `seed` is that of initial values; `train` says by module which parameters are trained, and `optimizers` how.
    `losses` are those of each module beside the main one.
    """

    seed: int
    training: TrainingConfig
    train: Mapping[str, Train]
    optimizers: Mapping[str, OptimizerSection]
    losses: Mapping[str, Sequence[LossSection]]
