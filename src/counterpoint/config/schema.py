"""The configuration of a run: the one home of every key, its type and its default."""

from typing import Annotated, Any, Literal

from pydantic import Field

from counterpoint.config.data import (
    ConstantConfig,
    DataConfig,
    DataEntry,
    Distribution,
    ImageConfig,
    LognormalConfig,
    PreparedEntry,
    SyntheticConfig,
    SyntheticEntry,
    UniformConfig,
)
from counterpoint.config.layout import ExpertLayoutConfig, LayoutConfig
from counterpoint.config.models import (
    DecoderConfig,
    LinearProjectorConfig,
    MambaConfig,
    MlpProjectorConfig,
    ModelConfig,
    MoeConfig,
    ProjectorConfig,
    VitConfig,
)
from counterpoint.config.optimizer import LearningRateConfig, OptimizerConfig
from counterpoint.config.section import Patterns, Section, Text, matching
from counterpoint.config.training import (
    CheckpointConfig,
    EvaluationConfig,
    LogConfig,
    PrecisionConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
    WatchdogConfig,
    WorldConfig,
)

ModuleName = Annotated[str, matching(r"[a-z][a-z0-9_]*", "a module name of lowercase letters, digits and _")]
"""Names stand in actions (`language.1F3`) and parameter keys, hence no dots and no capitals."""


class ModuleConfig(Section):
    """One node of the model graph: what it computes and where, what of it is trained, and how."""

    model: ModelConfig
    layout: LayoutConfig = LayoutConfig()
    train: Literal["all", "none"] | Patterns = "all"
    init_from: Text | None = None
    optimizer: OptimizerConfig


class EdgeConfig(Section):
    """Rows of `source` enter `target` where the prepared text has `mark`."""

    source: Text
    target: Text
    mark: Text = "<image>"


class Config(Section):
    """One run. `load_config` builds it and checks what types alone cannot."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: RunConfig
    world: WorldConfig
    modules: Annotated[dict[ModuleName, ModuleConfig], Field(min_length=1)]
    edges: Annotated[tuple[EdgeConfig, ...], Field(strict=False)] = ()
    schedule: ScheduleConfig = ScheduleConfig()
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    watchdog: WatchdogConfig = WatchdogConfig()

    def resolved(self) -> dict[str, Any]:
        """All keys with their values, defaults included, as plain data that loads to an equal config."""
        return self.model_dump(mode="json", by_alias=True)


__all__ = [
    "CheckpointConfig",
    "Config",
    "ConstantConfig",
    "DataConfig",
    "DataEntry",
    "DecoderConfig",
    "Distribution",
    "EdgeConfig",
    "EvaluationConfig",
    "ExpertLayoutConfig",
    "ImageConfig",
    "LayoutConfig",
    "LearningRateConfig",
    "LinearProjectorConfig",
    "LogConfig",
    "LognormalConfig",
    "MambaConfig",
    "MlpProjectorConfig",
    "ModelConfig",
    "ModuleConfig",
    "MoeConfig",
    "OptimizerConfig",
    "PrecisionConfig",
    "PreparedEntry",
    "ProjectorConfig",
    "RunConfig",
    "ScheduleConfig",
    "SyntheticConfig",
    "SyntheticEntry",
    "TrainingConfig",
    "UniformConfig",
    "VitConfig",
    "WatchdogConfig",
    "WorldConfig",
]
