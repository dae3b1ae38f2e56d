"""How a module's parameters are updated."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.section.section import Count, Index, NonNegative, Patterns, Positive, Section, Share

_Beta = Annotated[float, Field(ge=0, lt=1)]


class LearningRateConfig(Section):
    """Linear warm-up, then decay to `minimum` x lr at `decay_steps` (null: at the last step)."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Index = 0
    minimum: Share = 0.0
    decay_steps: Count | None = None


class OptimizerConfig(Section):
    """AdamW; parameters whose name matches a pattern of `no_decay` are spared from weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive
    betas: Annotated[tuple[_Beta, _Beta], Field(strict=False)] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    no_decay: Patterns = ("*bias", "*norm*", "embed.*")
    schedule: LearningRateConfig = LearningRateConfig()
