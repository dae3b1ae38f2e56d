"""The rules of an update, said once more for the reference, which shares none of them with what it judges."""

import math
from fnmatch import fnmatchcase

from counterpoint.optimizers.kind import OptimizerSection


def rate(optimizer: OptimizerSection, step: int, steps: int) -> float:
    """The learning rate of update `step`, counted from 0, of a training of `steps`."""
    curve = optimizer.schedule
    last = steps if curve.decay_steps is None else curve.decay_steps
    warm = min((step + 1) / max(curve.warmup_steps, 1), 1.0)
    done = min(max(step - curve.warmup_steps, 0) / max(last - curve.warmup_steps, 1), 1.0)
    left = {"constant": 1.0, "linear": 1.0 - done, "cosine": math.cos(math.pi * done / 2) ** 2}[curve.kind]
    return optimizer.lr * warm * (curve.minimum * (1.0 - left) + left)


def is_trained(train: str | tuple[str, ...], name: str) -> bool:
    """Whether a parameter of a module moves, by the module's `train`."""
    if isinstance(train, str):
        return train == "all"
    return any(fnmatchcase(name, pattern) for pattern in train)
