"""The configuration of a run: the one home of every key, its type and its default."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from counterpoint.config.data import (
    DataConfig,
)
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
from counterpoint.families import ModelConfig
from counterpoint.kinds.sections import sections_in
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.section.layout import ExpertLayoutConfig, LayoutConfig
from counterpoint.section.of_kind import OfKind
from counterpoint.section.section import Count, Index, Patterns, Section, Text, matching

ModuleName = Annotated[str, matching(r"[a-z][a-z0-9_]*", "a module name of lowercase letters, digits and _")]
"""Names stand in actions (`language.1F3`) and parameter keys, hence no dots and no capitals."""


LayerKinds = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
"""Kinds of layers, each by its letter."""


class InitFromConfig(Section):
    """Values that a module begins with: those of a Hugging Face folder, of a run, or of one of its checkpoints.

    `module` is its name in that run (null: the same). What fits a pattern of `fresh` is not loaded: it begins anew, as
    without the key, or is left out if the module does not have it.
    """

    path: Text
    module: ModuleName | None = None
    fresh: Patterns = ()


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class ModuleConfig(Section):
    """One node of the model graph: what it computes and where, what of it is trained, and how.

    `recompute` are the layers whose inside is computed again in backward instead of kept: letters of a decoder's
    pattern, L for an encoder's layers. `weight` is what a forward of one of its stages takes beside those of other
    modules, by which schedules are laid out.
    """

    model: ModelConfig
    layout: LayoutConfig = LayoutConfig()
    train: Literal["all", "none"] | Patterns = "all"
    recompute: Literal["none", "full"] | LayerKinds = "none"
    init_from: Annotated[InitFromConfig | None, BeforeValidator(_path_alone)] = None
    weight: Count = 1
    optimizer: Annotated[OptimizerSection, OfKind(sections_in(OPTIMIZERS), default="adamw")]


class DepthConfig(Section):
    """Features behind the source's layer `after` that join the rows behind the target's layer `into`, from 0 on."""

    after: Index
    into: Index


class EdgeConfig(Section):
    """Rows of `source` enter `target`, where the prepared text has the mark of the encoder that they began in.

    `mark` names it on an edge from that encoder (null: `<image>` or `<audio>`, by what it takes). At `depths` features
    of more layers cross (Meng et al., 2024, arXiv:2406.04334), each through a projector of its own.
    """

    source: Text
    target: Text
    mark: Text | None = None
    depths: Annotated[tuple[DepthConfig, ...], Field(strict=False)] = ()


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
    "DataConfig",
    "DepthConfig",
    "EdgeConfig",
    "EvaluationConfig",
    "ExpertLayoutConfig",
    "InitFromConfig",
    "LayoutConfig",
    "LogConfig",
    "ModuleConfig",
    "PrecisionConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "WatchdogConfig",
    "WorldConfig",
]
