"""What several tests ask of optimizers on ranks."""

from collections.abc import Iterator
from typing import Any

from counterpoint.optimizers.adamw.update import AdamWUpdate
from counterpoint.optimizers.muon.update import MuonUpdate
from counterpoint.train.optimizer import ModuleOptimizer

OPTIMIZER = {"kind": "muon", "lr": 1e-3, "weight_decay": 0.1, "eps": 1e-3}
MUON = {"modules.vision.optimizer": OPTIMIZER, "modules.language.optimizer": OPTIMIZER}
"""Overrides of a pair; eps is that of `verify`."""


def adamw_states(optimizer: ModuleOptimizer) -> Iterator[dict[str, Any]]:
    """What torch's AdamW keeps of each shard that it updates."""
    for group in optimizer._groups:
        update = group.update._others if isinstance(group.update, MuonUpdate) else group.update
        if isinstance(update, AdamWUpdate):
            yield from update._adamw.state.values()
