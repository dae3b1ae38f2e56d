"""Random optimizers: how learning rates change, and groups of parameters with updates of their own."""

import random
from fnmatch import fnmatchcase
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.families import facts_of
from counterpoint.plan.trainability import is_trained, parameter_names
from counterpoint.setup.plan import models_of

_SCHEDULES: tuple[dict[str, Any], ...] = (
    {"kind": "linear", "warmup_steps": 1, "decay_steps": 3},
    {"kind": "cosine", "minimum": 0.1},
    {"kind": "wsd", "cooldown_share": 1.0},
    {"kind": "wsd", "warmup_steps": 1, "cooldown_steps": 10, "shape": "cosine", "minimum": 0.2},
    {"kind": "inverse_sqrt", "warmup_steps": 1},
)
"""They change the rate of the first or second step of the ten that a drawn training has."""

_PATTERNS = ("*norm*", "*.attention.*", "layers.[13].*", "*.weight", "projector.*", "embed.*", "*.experts.*", "*.mlp.*")
_WITH_SCHEDULE, _WITH_GROUPS = 0.4, 0.4


def draw_optimizers(config: Config, generator: random.Random) -> dict[str, dict[str, Any]]:
    """The keys of each module's optimizer that are drawn anew; a group has parameters that its module trains."""
    models = models_of(config, None)
    drawn = {}
    for name, module in config.modules.items():
        names = [n for n in parameter_names(facts_of(models[name])) if is_trained(n, module.train)]
        keys: dict[str, Any] = {"groups": _draw_groups(names, module.optimizer.lr, generator)}
        if generator.random() < _WITH_SCHEDULE:
            keys["schedule"] = generator.choice(_SCHEDULES)
        drawn[name] = keys
    return drawn


def _draw_groups(names: list[str], lr: float, generator: random.Random) -> list[dict[str, Any]]:
    """Up to two groups, each with a parameter that the one before has not."""
    patterns = generator.sample(_PATTERNS, 2) if generator.random() < _WITH_GROUPS else []
    groups: list[dict[str, Any]] = []
    for pattern in patterns:
        joining = [name for name in names if fnmatchcase(name, pattern)]
        names = [name for name in names if name not in joining]
        if joining:
            groups.append({"match": pattern, "lr": lr * generator.choice([0.1, 3.0])} | _draw_update(generator))
    return groups


def _draw_update(generator: random.Random) -> dict[str, Any]:
    keys: dict[str, Any] = {"weight_decay": generator.choice([None, 0.0, 0.3])}
    if generator.random() < _WITH_SCHEDULE:
        keys["schedule"] = generator.choice(_SCHEDULES)
    return keys
