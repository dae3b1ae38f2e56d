"""The run around the modules: its folder, its ranks, its steps, and what is written and watched."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.plan.schedule import SCHEDULES
from counterpoint.section.of_kind import one_of
from counterpoint.section.section import Count, Index, Positive, Precision, Ranks, Section, Several, Text


class RunConfig(Section):
    """The folder that everything is written to, the seed, the device (`auto`: CUDA where there is one)."""

    dir: Text
    seed: Index = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = False


MOST_RANKS = 100_000
"""Of a world; whoever counts more meant something else."""


MOST_SAMPLES = 10_000_000
"""Of a step, each of which the plan deals out."""


class WorldConfig(Section):
    """Number of ranks; idle ones must be listed, and sharing some but not all ranks must be meant."""

    size: Annotated[int, Field(ge=1, le=MOST_RANKS)]
    idle: Ranks = ()
    partial_overlap: bool = False


class ScheduleConfig(Section):
    """Order of forwards and backwards of a step's microbatches.

    An encoder takes `encoder_group` of them at once, and runs when its rows are needed, `first`, or to `fill` gaps, by
    at most `buffer` of its microbatches ahead. Encoders that nothing trains may run `run_ahead` steps ahead.
    """

    kind: Annotated[str, one_of(lambda: (name for name, kind in SCHEDULES.items() if kind.trains))] = "1f1b"
    microbatches: Several = 1
    encoder_group: Count = 1
    encoder: Literal["just_in_time", "first", "fill"] = "just_in_time"
    buffer: Count | None = None
    run_ahead: Index = 0


class PrecisionConfig(Section):
    """Dtypes of stored parameters, of compute, and of gradient accumulation and reduction."""

    parameters: Precision = "float32"
    compute: Precision = "float32"
    reduce: Precision = "float32"


class TrainingConfig(Section):
    """Optimizer steps, samples per step over all lanes, and the gradient norm to clip at (null: never).

    `tp_overlap`: products with rows of tensor-parallel ranks run while these rows travel, where GPUs reach each other;
    not in stages whose weight gradients a zero-bubble schedule computes apart. `skip_nonfinite`: how many steps in a
    row may have a loss or a gradient that is not finite; they update nothing, and the run goes on.
    """

    steps: Count
    global_batch_samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
    clip_norm: Positive | None = 1.0
    compile: bool = False
    tp_overlap: bool = True
    skip_nonfinite: Index = 0
    precision: PrecisionConfig = PrecisionConfig()


class EvaluationConfig(Section):
    """When `data.evaluation` is read: every so many steps (null: only at the end), in batches of its own."""

    every_steps: Count | None = None
    batch_samples: Count = 64


class CheckpointConfig(Section):
    """Checkpoints every so many steps (null: only at the end); `resume: auto` continues from the newest."""

    every_steps: Count | None = None
    keep_last: Count = 2
    asynchronous: bool = True
    resume: Literal["auto", "none"] = "auto"


class LogConfig(Section):
    """Metrics every so many steps, and whether TensorBoard files are written beside them."""

    every_steps: Count = 10
    tensorboard: bool = True


class WatchdogConfig(Section):
    """Seconds without progress before a rank is called hung: in a step, at start-up, and in load and save."""

    timeout_seconds: Positive = 300.0
    startup_seconds: Positive = 900.0
    checkpoint_seconds: Positive = 900.0
