"""Optional metrics that a config selects: functions of a logged step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from counterpoint.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedStep:
    """The argument of metrics, in the process of the first active rank: a logged step.

    `loss` is the mean over the `loss_tokens` of the step's global batch; `gradient_norm` is that of all gradients
    before clipping. `step_seconds` is the mean duration of the steps since the last logged one. `learning_rates` and
    `gradient_norms` are by module, `losses` are the further losses by `<module>.<kind>`.
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
"""A function of a logged step; a value that is not finite is recorded as null."""


def perplexity(step: LoggedStep) -> float:
    """The exponential of the loss; infinity if it overflows."""
    try:
        return math.exp(step.loss)
    except OverflowError:
        return math.inf


METRICS = Registry[Metric]("metric", {"perplexity": perplexity})
