"""The rules of an update, written a second time for the reference, which shares none with the code under test."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.optimizers.rates import LEARNING_RATES


def rate(optimizer: OptimizerSection, step: int, steps: int) -> float:
    """The learning rate of update `step`, counted from 0, of a training of `steps`."""
    curve = optimizer.schedule
    warm = min((step + 1) / max(curve.warmup_steps, 1), 1.0)
    left = _LEFT.get(curve.kind, _by_itself)(curve, step, steps)
    return optimizer.lr * warm * (curve.minimum * (1.0 - left) + left)


def _decay(curve: Any, step: int, steps: int) -> float:
    last = steps if curve.decay_steps is None else curve.decay_steps
    return _along(curve.kind, curve.warmup_steps, step, last)


def _cooldown(curve: Any, step: int, steps: int) -> float:
    share = 0.2 if curve.cooldown_share is None else curve.cooldown_share
    length = round(steps * share) if curve.cooldown_steps is None else curve.cooldown_steps
    return _along(curve.shape, max(curve.warmup_steps, steps - length), step, steps)


def _inverse_sqrt(curve: Any, step: int, _steps: int) -> float:
    return min(1.0, math.sqrt(max(curve.warmup_steps, 1) / (step + 1)))


def _by_itself(curve: Any, step: int, steps: int) -> float:
    """Of a kind from elsewhere there is only what it says itself, of steps after warm-up."""
    return LEARNING_RATES[curve.kind].left(curve, step, steps) if step >= curve.warmup_steps else 1.0


_LEFT: dict[str, Callable[[Any, int, int], float]] = {
    "constant": lambda _curve, _step, _steps: 1.0,
    "linear": _decay,
    "cosine": _decay,
    "wsd": _cooldown,
    "inverse_sqrt": _inverse_sqrt,
}
"""The share of what can decay that is left; all of it during warm-up. Plug-ins' kinds are not written twice."""


def _along(shape: str, first: int, step: int, last: int) -> float:
    done = min(max(step - first, 0) / max(last - first, 1), 1.0)
    return {"linear": 1.0 - done, "cosine": math.cos(math.pi * done / 2) ** 2, "sqrt": 1.0 - math.sqrt(done)}[shape]


def rules_for(optimizer: OptimizerSection, name: str) -> tuple[str, OptimizerSection]:
    """The name of a parameter's group, empty if it is in none, and the optimizer section that holds for it."""
    for group in optimizer.groups:
        if fnmatchcase(name, group.match):
            own = {key: value for key, value in group if value is not None and key in type(optimizer).model_fields}
            return group.match, optimizer.model_copy(update=own)
    return "", optimizer


def is_trained(train: str | tuple[str, ...], name: str) -> bool:
    """Whether a parameter is trained, by its module's `train`."""
    if isinstance(train, str):
        return train == "all"
    return any(fnmatchcase(name, pattern) for pattern in train)
