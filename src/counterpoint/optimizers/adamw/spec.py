"""Section and facts of AdamW, without torch."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.optimizers.kind import GroupSection, OptimizerKind, OptimizerSection
from counterpoint.section.section import NonNegative, Patterns, Positive

Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Beta, Beta], Field(strict=False)]

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Moments of a parameter."""


class AdamWGroup(GroupSection):
    """A parameter group of AdamW."""

    betas: Betas | None = None
    """Decay rates of the running means for the group (null: those of the module). No unit."""
    weight_decay: NonNegative | None = None
    """Weight decay of the group (null: that of the module); `no_decay` of the module holds here too. No unit."""


class AdamWSection(OptimizerSection):
    """AdamW (Loshchilov and Hutter, 2017, arXiv:1711.05101)."""

    kind: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square. No unit."""
    eps: Positive = 1e-8
    """Added to the root of the mean square before it divides. No unit."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay: in each step parameters shrink by learning rate x this. No unit."""
    no_decay: Patterns = ("*bias", "*norm*", "embed.*")
    """Shell-style patterns of names of parameters without weight decay; parameters with fewer than two dimensions never
    have it."""
    moments: Literal["full", "bfloat16"] = "full"
    """Data type in which the running means are kept: `full` is that of stored parameters; `bfloat16` halves their
    memory, and they are rounded up or down at random."""
    groups: Annotated[tuple[AdamWGroup, ...], Field(strict=False)] = ()
    """Parameter groups by name pattern, each with its own values of some keys; the first match counts."""


ADAMW = OptimizerKind(
    section=AdamWSection,
    moments=lambda _section, _name, _shape: MOMENTS,
    moment_bytes=lambda section: 2 if section.moments == "bfloat16" else None,
    update="counterpoint.optimizers.adamw.choice:adamw_update",
    plain="counterpoint.verify.adamw:plain_adamw",
)
