"""The settings of an engine."""

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
    """The settings that determine, with plan and models, the values that an engine computes.

    `seed` is for initial values. Layers are compiled if `is_compiled`, whatever `training.compile` is. By module,
    `train` selects the trained parameters, `optimizers` are the optimizer sections, and `losses` the further losses.
    """

    seed: int
    training: TrainingConfig
    is_compiled: bool
    train: Mapping[str, Train]
    optimizers: Mapping[str, OptimizerSection]
    losses: Mapping[str, Sequence[LossSection]]
