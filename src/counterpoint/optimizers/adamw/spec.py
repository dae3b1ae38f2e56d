"""AdamW as configs and plans know it."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.optimizers.kind import OptimizerKind, OptimizerSection
from counterpoint.section.section import NonNegative, Patterns, Positive

_Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamWSection(OptimizerSection):
    """AdamW; parameters whose name matches a pattern of `no_decay` are spared from weight decay."""

    kind: Literal["adamw"] = "adamw"
    betas: Annotated[tuple[_Beta, _Beta], Field(strict=False)] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    no_decay: Patterns = ("*bias", "*norm*", "embed.*")


ADAMW = OptimizerKind(
    section=AdamWSection,
    moments=("exp_avg", "exp_avg_sq"),
    update="counterpoint.optimizers.adamw.update:AdamWUpdate",
    plain="counterpoint.verify.adamw:plain_adamw",
)
