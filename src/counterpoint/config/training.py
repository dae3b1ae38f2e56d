"""The run around the modules: its folder, its ranks, its steps, and what is written and watched."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from counterpoint.kinds.sections import sections_in
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.kind import RecorderSection
from counterpoint.recorders.metric import METRICS
from counterpoint.recorders.tensorboard.spec import TensorBoardSection
from counterpoint.section.of_kind import OfKind, OneOf
from counterpoint.section.section import (
    MOST_RANKS,
    Count,
    Index,
    Matching,
    Positive,
    Precision,
    Ranks,
    Section,
    Several,
    Text,
)

Distribution = Annotated[
    str, Matching(r"[a-z0-9]+(-[a-z0-9]+)*", "the name of a distribution in lowercase letters and digits, joined by -")
]
"""A name as package indexes write it, normalised."""


class RunConfig(Section):
    """Folder, seed, device and plug-ins of a run."""

    dir: Text
    """Folder of the run: config, metrics, checkpoints, report. A folder that has checkpoints is resumed (see
    `checkpoint.resume`)."""
    plugins: Annotated[tuple[Distribution, ...], Field(strict=False)] = ()
    """Names of installed distributions whose kinds the config uses: they are imported, and no others (see
    docs/extending.md)."""
    seed: Index = 0
    """Seed of the initial values and of the order of the data. No unit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live: `cpu`, `cuda`, or `auto` for CUDA where there is a GPU."""
    deterministic: bool = False
    """Whether only deterministic kernels are used, so that a repeated run gives the same bits; some kernels are
    slower."""


MOST_SAMPLES = 10_000_000
"""Of a step, each of which the plan deals out."""


class WorldConfig(Section):
    """The ranks of a run."""

    size: Annotated[int, Field(ge=1, le=MOST_RANKS)]
    """Number of ranks. Unit: ranks."""
    idle: Ranks = ()
    """Ranks that no module uses; a rank without a module that is not listed here is refused. Unit: ranks."""
    partial_overlap: bool = False
    """Whether two modules may share some but not all of their ranks; refused otherwise, since it is mostly a slip."""


class ScheduleConfig(Section):
    """Microbatches of a step and the order of their forwards and backwards."""

    kind: Annotated[str, OneOf(lambda: (name for name, kind in SCHEDULES.items() if kind.trains))] = "1f1b"
    """The pipeline schedule: `gpipe`, `1f1b`, `interleaved` (needs `layout.chunks`), `zero_bubble` or `filled` (1F1B
    with encoders in its gaps), or one that is registered."""
    microbatches: Several = 1
    """Microbatches that the global batch of a step is cut into. Unit: microbatches."""
    encoder_group: Count = 1
    """Microbatches that an encoder processes in one forward. Unit: microbatches."""
    encoder: Literal["just_in_time", "first", "fill"] = "just_in_time"
    """When encoders run: `just_in_time` when their rows are needed, `first` before all other work of the step, `fill`
    only where a rank would be idle. Not with `filled`, which decides it by itself."""
    buffer: Count | None = None
    """Most microbatches that an encoder may have in flight; null: as many as the schedule needs. Not with `encoder:
    first` or `gpipe`, which keep all. Unit: microbatches."""
    run_ahead: Index = 0
    """Steps that encoders which receive no gradient may compute ahead of the training step. Unit: steps."""


class PrecisionConfig(Section):
    """Data types of a training. Allowed together (parameters/compute/reduce): all float32, all float64,
    float32/bfloat16/float32 and float32/bfloat16/bfloat16."""

    parameters: Precision = "float32"
    """Data type of stored parameters and optimizer state."""
    compute: Precision = "float32"
    """Data type of forward and backward. Submodules that need it (routers, Mamba-2's dynamics) stay in float32."""
    reduce: Precision = "float32"
    """Data type in which gradients are accumulated and reduced."""


class TrainingConfig(Section):
    """Steps, batch size and numerics of a training."""

    steps: Count
    """Optimizer steps of the whole training. Unit: steps."""
    global_batch_samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
    """Samples of an optimizer step over all ranks and microbatches: documents, or packs with `data.packing`.
    Unit: samples."""
    clip_norm: Positive | None = 1.0
    """Gradient norm, over all modules together, above which gradients are scaled down to it; null: never. No unit."""
    compile: Literal["auto"] | bool = "auto"
    """Whether torch.compile compiles what layers do between communication and attention kernels, in the first step;
    `auto`: on GPUs, in trainings of at least 200 steps, unless `run.deterministic`."""
    tp_overlap: bool = True
    """Whether the matrix products of tensor-parallel ranks overlap with the communication of their rows, on GPUs that
    can access each other's memory. Has no effect in stages whose weight gradients `zero_bubble` computes separately."""
    skip_nonfinite: Index = 0
    """Consecutive steps that may have a loss or gradient that is not finite; such a step updates nothing. One more ends
    the run. Unit: steps."""
    precision: PrecisionConfig = PrecisionConfig()
    """Data types of parameters, compute and gradient reduction."""


class EvaluationConfig(Section):
    """When and how the sets of `data.evaluation` are read."""

    every_steps: Count | None = None
    """Optimizer steps between evaluations; null: only after the last step. Unit: steps."""
    batch_samples: Count = 64
    """Samples of an evaluation batch over all ranks. Unit: samples."""


class HubConfig(Section):
    """Checkpoints that are also written as folders that transformers loads."""

    every_steps: Count | None = None
    """Optimizer steps between exports, a multiple of `checkpoint.every_steps`; the last step's checkpoint is exported,
    too. Null: only that one. Unit: steps."""
    path: str | None = None
    """Folder in which each export is a folder `step-NNNNNNNN`; null: `hub` in `run.dir`."""
    dtype: Literal["float64", "float32", "float16", "bfloat16"] | None = None
    """Data type of the tensors; null: that of the folder that the run began with, or bfloat16."""
    keep_last: Count | None = None
    """Newest exports that are kept; null: all. Unit: exports."""


class CheckpointConfig(Section):
    """When checkpoints are written and whether a run resumes."""

    every_steps: Count | None = None
    """Optimizer steps between checkpoints; null: only after the last step. Unit: steps."""
    keep_last: Count = 2
    """Newest checkpoints that are kept; older ones are removed once a new one is complete. Unit: checkpoints."""
    asynchronous: bool = True
    """Whether checkpoints are written in the background while training goes on."""
    resume: Literal["auto", "none"] = "auto"
    """`auto` resumes from the newest checkpoint in `run.dir`, if there is one; `none` starts over and sets older
    checkpoints aside."""
    hub: HubConfig | None = None
    """Exports of checkpoints during training; null: none."""


_EARLIER = "tensorboard"
"""The kind of recorder that was a key of its own."""


class LogConfig(Section):
    """How often metrics are recorded, and where beside the terminal and `metrics.jsonl` in the run's folder."""

    every_steps: Count = 10
    """Optimizer steps between records of metrics; the first and the last step are recorded, too. Unit: steps."""
    recorders: Annotated[
        tuple[Annotated[RecorderSection, OfKind(sections_in(RECORDERS))], ...], Field(strict=False)
    ] = (TensorBoardSection(),)
    """What else keeps or shows metrics; a list that is given takes the place of the whole default."""
    metrics: Annotated[tuple[Annotated[str, OneOf(lambda: METRICS)], ...], Field(strict=False)] = ()
    """Further numbers of each logged step, recorded as `metrics/NAME`: `perplexity` is the exponential of the loss."""
    timeline_steps: Annotated[tuple[Count, ...], Field(strict=False)] = (3,)
    """Steps after each start, counted from 1, whose actions are timed on all ranks for `counterpoint report`; a shorter
    run times its last step, and an empty list times none. Unit: steps."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, data: Any) -> Any:
        """`tensorboard: true` and `false`, which earlier versions had, as an entry of the list or none."""
        if not isinstance(data, Mapping) or not isinstance(wanted := data.get(_EARLIER), bool):
            return data
        keys = {key: value for key, value in data.items() if key != _EARLIER}
        listed = keys.get("recorders", [])
        if not isinstance(listed, list | tuple):
            return keys
        others = [one for one in listed if not (isinstance(one, Mapping) and one.get("kind") == _EARLIER)]
        return {**keys, "recorders": [*others, {"kind": _EARLIER}] if wanted else others}


class WatchdogConfig(Section):
    """How long a rank may be without progress before it is called hung and the run ends with its place."""

    timeout_seconds: Positive = 300.0
    """Longest time without progress inside a step. Unit: seconds."""
    startup_seconds: Positive = 900.0
    """Longest time without progress at start-up, in the first step and in the first evaluation, where kernels are
    compiled; at least `timeout_seconds`. Unit: seconds."""
    checkpoint_seconds: Positive = 900.0
    """Longest time without progress while a checkpoint is loaded or saved. Unit: seconds."""
