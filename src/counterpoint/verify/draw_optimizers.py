"""Random optimizers: their kinds, how learning rates change, and groups of parameters with updates of their own."""

import random
from fnmatch import fnmatchcase
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.families import facts_of
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.groups import keys_of_groups
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.optimizers.rates import LEARNING_RATES
from counterpoint.plan.trainability import is_trained, parameter_names
from counterpoint.setup.plan import models_of

_SCHEDULES: tuple[dict[str, Any], ...] = (
    {"kind": "linear", "warmup_steps": 1, "decay_steps": 3},
    {"kind": "cosine", "minimum": 0.1},
    {"kind": "wsd", "cooldown_share": 1.0},
    {"kind": "wsd", "warmup_steps": 1, "cooldown_steps": 10, "shape": "cosine", "minimum": 0.2},
    {"kind": "inverse_sqrt", "warmup_steps": 1},
)
"""Schedules that change the rate of the first or second of the ten steps of a drawn training."""

_OURS = {"constant", *(schedule["kind"] for schedule in _SCHEDULES)}

_PATTERNS = ("*norm*", "*.attention.*", "layers.[13].*", "*.weight", "projector.*", "embed.*", "*.experts.*", "*.mlp.*")
_WITH_SCHEDULE, _WITH_GROUPS, _WITH_MUON = 0.4, 0.4, 0.4

_OF_BOTH = ("lr", "eps", "weight_decay", "no_decay", "schedule", "betas")
"""Keys that mean the same to AdamW and Muon."""


def draw_optimizers(config: Config, generator: random.Random) -> dict[str, dict[str, Any]]:
    """The optimizer of each module; a group has parameters that its module trains.

    A config's own kind stays, but some AdamWs become Muons.
    """
    models = models_of(config, None)
    drawn = {}
    for name, module in config.modules.items():
        every = list(parameter_names(facts_of(models[name])))
        names = [n for n in every if is_trained(n, module.train)]
        optimizer = module.optimizer.model_dump(mode="json") | {
            "groups": _draw_groups(names, module.optimizer, generator)
        }
        if generator.random() < _WITH_SCHEDULE:
            optimizer["schedule"] = _draw_schedule(generator)
        muon = OPTIMIZERS["muon"].drawn(generator)
        if generator.random() < _WITH_MUON and optimizer["kind"] == "adamw":
            optimizer = {key: optimizer[key] for key in (*_OF_BOTH, "groups")} | {"kind": "muon"} | muon
        else:
            optimizer |= OPTIMIZERS[optimizer["kind"]].drawn(generator)
        for key in OPTIMIZERS[optimizer["kind"]].patterns:
            if key in optimizer:
                optimizer[key] = [pattern for pattern in optimizer[key] if any(fnmatchcase(n, pattern) for n in every)]
        drawn[name] = optimizer
    return drawn


def _draw_schedule(generator: random.Random) -> dict[str, Any]:
    """One of ours, or of a kind that a plug-in brings."""
    others = ({"kind": name, **kind.drawn(generator)} for name, kind in LEARNING_RATES.items() if name not in _OURS)
    return generator.choice([*_SCHEDULES, *others])


def _draw_groups(names: list[str], section: OptimizerSection, generator: random.Random) -> list[dict[str, Any]]:
    """Up to two groups, each with a parameter that the previous one does not have."""
    patterns = generator.sample(_PATTERNS, 2) if generator.random() < _WITH_GROUPS else []
    groups: list[dict[str, Any]] = []
    for pattern in patterns:
        joining = [name for name in names if fnmatchcase(name, pattern)]
        names = [name for name in names if name not in joining]
        if joining:
            drawn = {"match": pattern, "lr": section.lr * generator.choice([0.1, 3.0])} | _draw_update(generator)
            groups.append({key: value for key, value in drawn.items() if key in keys_of_groups(section)})
    return groups


def _draw_update(generator: random.Random) -> dict[str, Any]:
    keys: dict[str, Any] = {"weight_decay": generator.choice([None, 0.0, 0.3])}
    if generator.random() < _WITH_SCHEDULE:
        keys["schedule"] = _draw_schedule(generator)
    return keys
