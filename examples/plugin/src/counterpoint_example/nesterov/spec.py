"""Gradient descent with Nesterov's momentum, as configs and plans know it."""

from typing import Annotated, Literal

from pydantic import Field

from counterpoint.extend import NonNegative, OptimizerKind, OptimizerSection

VELOCITY = "velocity"
"""What is kept of each parameter, by its name in checkpoints."""


class NesterovSection(OptimizerSection):
    """Gradient descent with momentum (Sutskever et al., 2013), the gradient taken ahead of it."""

    kind: Literal["nesterov"]
    """The optimizer."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the velocity that stays from step to step. No unit."""
    weight_decay: NonNegative = 0.0
    """Added to the gradient of matrices, times the parameter; vectors are spared. No unit."""


NESTEROV = OptimizerKind(
    section=NesterovSection,
    moments=lambda _section, _name, _shape: (VELOCITY,),
    update="counterpoint_example.nesterov.update:NesterovUpdate",
    plain="counterpoint_example.nesterov.plain:plain_nesterov",
    drawn=lambda generator: {"momentum": generator.choice([0.9, 0.0])},
)
