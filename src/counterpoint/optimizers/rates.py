"""How the learning rate of a module changes over a training."""

import math
from collections.abc import Callable
from typing import Annotated

from counterpoint.registry import Registry
from counterpoint.section.of_kind import one_of
from counterpoint.section.section import Count, Index, Section, Share

Curve = Callable[[float], float]
"""From the share of the decay that is done, 0 to 1, to the share of what can decay that is left."""


def constant(_done: float) -> float:
    """No decay."""
    return 1.0


def linear(done: float) -> float:
    """A straight line to the minimum."""
    return 1.0 - done


def cosine(done: float) -> float:
    """Half a wave to the minimum (Loshchilov and Hutter 2016, arXiv:1608.03983), without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


LEARNING_RATES = Registry[Curve]("learning_rate", {"constant": constant, "linear": linear, "cosine": cosine})


class LearningRateSection(Section):
    """Linear warm-up, then decay to `minimum` x lr at `decay_steps` (null: at the last step)."""

    kind: Annotated[str, one_of(lambda: LEARNING_RATES)] = "constant"
    warmup_steps: Index = 0
    minimum: Share = 0.0
    decay_steps: Count | None = None


def learning_rate(highest: float, schedule: LearningRateSection, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step` (from 0): linear warm-up to the `highest`, then decay.

    Decay runs from the end of warm-up to `decay_steps` (the training's steps unless given) and ends at
    `minimum` x the highest.
    """
    if step < schedule.warmup_steps:
        return highest * (step + 1) / schedule.warmup_steps
    end = total_steps if schedule.decay_steps is None else schedule.decay_steps
    span = max(end - schedule.warmup_steps, 1)
    left = LEARNING_RATES[schedule.kind](min((step - schedule.warmup_steps) / span, 1.0))
    return highest * (schedule.minimum + (1.0 - schedule.minimum) * left)
