"""Metrics that a config asks for beside those of every run: numbers of a logged step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from counterpoint.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedStep:
    """A logged step as metrics see it, in the process of the first rank alone.

    `loss` is the mean over the `loss_tokens` of the step's global batch, `gradient_norm` is of all gradients before
    clipping. Steps since the last logged one took `step_seconds` each. By module are the learning rates and the norms
    of gradients, by `<module>.<kind>` the `losses` beside the main one.
    """

    step: int
    loss: float
    loss_tokens: int
    gradient_norm: float
    step_seconds: float
    tokens_per_second: float
    learning_rates: Mapping[str, float]
    gradient_norms: Mapping[str, float]
    losses: Mapping[str, float]


Metric = Callable[[LoggedStep], float]
"""A number of a logged step; what is not finite is recorded as null."""


def perplexity(step: LoggedStep) -> float:
    """The exponential of the loss; infinite where it is too large for a number."""
    try:
        return math.exp(step.loss)
    except OverflowError:
        return math.inf


METRICS = Registry[Metric]("metric", {"perplexity": perplexity})
