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
from counterpoint.losses import LOSSES
from counterpoint.losses.kind import LossSection
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.plugins.load import load_plugins
from counterpoint.section.connection import Connection
from counterpoint.section.layout import ExpertLayoutConfig, LayoutConfig
from counterpoint.section.of_kind import OfKind
from counterpoint.section.section import Count, Index, Matching, Number, Patterns, Section, Text

ModuleName = Annotated[str, Matching(r"[a-z][a-z0-9_]*", "a module name of lowercase letters, digits and _")]
"""Names stand in actions (`language.1F3`) and parameter keys, hence no dots and no capitals."""


LayerKinds = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
"""Kinds of layers, each by its letter, and cheap parts of layers."""

CostlyKinds = Annotated[tuple[Literal["attention"], ...], Field(strict=False)]
"""What is dear to compute again."""


class InitFromConfig(Section):
    """Where a module's initial values come from: a Hugging Face folder, another run, one of its checkpoints, or a
    checkpoint of Megatron."""

    path: Text
    """A Hugging Face folder with safetensors, the folder of another run (its newest checkpoint is read), one checkpoint
    of it, or a torch.distributed.checkpoint of Megatron's with a RADIO encoder: the folder of an iteration, or the one
    above it. `init_from: PATH` is short for `{path: PATH}`."""
    module: ModuleName | None = None
    """Name of the module in the run at `path`; null: the same name as here. Has no meaning for Hugging Face folders."""
    fresh: Patterns = ()
    """Shell-style patterns of parameter names that are not loaded: matching parameters are initialised as without a
    warm start, and matching tensors that the module does not have are left out."""
    prefix: str | None = None
    """What the names of the encoder's tensors begin with in a checkpoint of Megatron, such as `model.vision_model.`;
    null: found, if there is one encoder. Has no meaning for other folders."""
    skip: Patterns = ()
    """Shell-style patterns of names, below `prefix` or whole, of tensors in a checkpoint of Megatron that are not read.
    Has no meaning for other folders, where `fresh` matches names of either side."""


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class ModuleConfig(Section):
    """One node of the model graph: what it computes, on which ranks, what of it is trained, and how."""

    model: ModelConfig
    """The module's model; its key `kind` names the family."""
    layout: LayoutConfig = LayoutConfig()
    """The module's ranks and degrees of parallelism."""
    train: Literal["all", "none"] | Patterns = "all"
    """What is trained: `all`, `none` (frozen, in evaluation mode, without optimizer state), or a list of shell-style
    patterns of parameter names, such as `["projector.*"]`."""
    recompute: Literal["none", "full"] | LayerKinds = "none"
    """What is recomputed in backward instead of kept: `none`, `full`, or a list. Its entries are kinds of layers, which
    keep nothing but their input (letters of a decoder's pattern, `L` for the layers of an encoder), and cheap parts of
    all other layers: `norms`, `activations` (those of MLPs and experts) and `convs` (Mamba-2's). With
    `training.compile` a part that lies inside of a compiled region is up to the compiler."""
    recompute_keeps: CostlyKinds = ()
    """What layers that are recomputed keep beside their input. `attention`: the output of attention's kernel and its
    log-sum-exp, so that backward does not run the kernel's forward again."""
    offload: bool = False
    """Whether what layers keep for backward waits in the host's memory. On GPUs it is copied to pinned memory during
    forward and back before its use; tensors under 1 MiB stay."""
    init_from: Annotated[
        InitFromConfig | None, BeforeValidator(_path_alone, json_schema_input_type=Text | InitFromConfig | None)
    ] = None
    """Where initial values come from (a warm start); null: the module is initialised at random from `run.seed`."""
    weight: Count = 1
    """Relative cost of the forward of one of the module's pipeline stages. The schedule is laid out by these costs; the
    numbers that are computed do not depend on them. No unit."""
    stage_costs: Annotated[
        tuple[Annotated[tuple[Index, Index, Index], Field(strict=False)], ...], Field(strict=False)
    ] = ()
    """Relative costs of each pipeline stage on one of the module's microbatches: forward, gradients of inputs,
    gradients of weights. Given for all modules they take the place of `weight`; empty: `weight` says it. No unit."""
    optimizer: Annotated[OptimizerSection, OfKind(sections_in(OPTIMIZERS), default="adamw")]
    """The optimizer of the module's trained parameters; its key `kind` names it."""
    losses: Annotated[tuple[Annotated[LossSection, OfKind(sections_in(LOSSES))], ...], Field(strict=False)] = ()
    """Losses of the module beside that of the next token, each with a key `kind`; one of a kind at most."""


class DepthConfig(Section):
    """Features of one layer of the source that are added to the rows of one layer of the target."""

    after: Index
    """Layer of the source whose output crosses, counted from 0. Unit: layers."""
    into: Index
    """Layer of the target after which the features are added to its rows, counted from 0. Unit: layers."""


# mypy takes a section, which is frozen as it is made, for a dataclass that is not.
class EdgeConfig(Section, Connection):  # type: ignore[misc]
    """Rows of one module that enter another."""

    mark: Text | None = None
    """Placeholder of the encoder's items in the prepared text, on an edge that leaves the encoder; null: that of its
    modality, such as `<image>` or `<audio>`. Each encoder needs a placeholder of its own."""
    depths: Annotated[tuple[DepthConfig, ...], Field(strict=False)] = ()
    """Further layers of the source whose features join the target, each through a projector of its own (Meng et al.,
    2024, arXiv:2406.04334)."""


class Config(Section):
    """The config of one run."""

    schema_version: Annotated[Literal[1], Number] = Field(default=1, alias="schema")
    """Version of these keys."""
    run: RunConfig
    """Folder, seed and device of the run."""
    world: WorldConfig
    """The ranks of the run."""
    modules: Annotated[dict[ModuleName, ModuleConfig], Field(min_length=1)]
    """The modules by name; exactly one is a decoder, which carries the loss."""
    edges: Annotated[tuple[EdgeConfig, ...], Field(strict=False)] = ()
    """Which module's rows enter which; together with `modules` they form the model graph."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Microbatches of a step and the order of their forwards and backwards."""
    data: DataConfig
    """What is trained and evaluated on, and how documents become batches."""
    training: TrainingConfig
    """Steps, batch size and numerics of the training."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When and how the evaluation sets are read."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When checkpoints are written and whether a run resumes."""
    log: LogConfig = LogConfig()
    """How often metrics are recorded, and where."""
    watchdog: WatchdogConfig = WatchdogConfig()
    """How long a rank may be without progress."""

    def resolved(self) -> dict[str, Any]:
        """All keys with their values, defaults included, as plain data that loads to an equal config."""
        return self.model_dump(mode="json", by_alias=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """A config travels to other processes as plain data: they load its plug-ins before they read its sections."""
        return _travelled, (self.run.plugins, self.resolved())


def _travelled(plugins: tuple[str, ...], data: dict[str, Any]) -> Config:
    load_plugins(plugins)
    return Config.model_validate(data)


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
