"""Small searches: configs whose spaces can be looked through whole, and what a search of them is made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from counterpoint import costs
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.costs.hardware import Hardware
from counterpoint.search.bounds import Bounds
from counterpoint.search.find import measured
from counterpoint.search.footprint import Footprints
from counterpoint.search.guess import Guess
from counterpoint.search.models import Models
from counterpoint.search.scoring import Scorer
from counterpoint.search.shortlist import Shortlist
from counterpoint.search.space import Space
from counterpoint.search.varied import held_keys, schedule_kinds
from counterpoint.search.walk import Walk
from counterpoint.search.workload import Workload

ROOT = Path(__file__).parents[3]

_SYNTHETIC: dict[str, Any] = {
    "documents": 64,
    "text_tokens": {"kind": "uniform", "low": 2048, "high": 3072},
    "images_per_document": {"kind": "uniform", "low": 0, "high": 2},
    "image_height": {"kind": "uniform", "low": 448, "high": 896},
    "image_width": {"kind": "uniform", "low": 448, "high": 896},
}

PAIR: dict[str, Any] = {
    "schema": 1,
    "run": {"dir": "runs/pair"},
    "world": {"size": 1},
    "modules": {
        "vision": {
            "model": {
                "kind": "vit", "layers": 4, "hidden": 1024, "heads": 4, "ffn": 4096, "patch": 14,
                "image": {"max_patches": 4096}, "projector": {"kind": "linear"},
            },
            "layout": {"ranks": [0]},
            "optimizer": {"lr": 1.0e-3},
        },
        "language": {
            "model": {
                "kind": "decoder", "pattern": "*-*-", "hidden": 4096, "heads": 4, "ffn": 16384, "vocab": 32768,
            },
            "layout": {"ranks": [0]},
            "optimizer": {"lr": 1.0e-3},
        },
    },
    "edges": [{"source": "vision", "target": "language"}],
    "data": {"train": [{"synthetic": _SYNTHETIC}], "sequence_tokens": 16384},
    "training": {
        "steps": 1000, "global_batch_samples": 8,
        "precision": {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"},
    },
}  # fmt: skip
"""A ViT and a decoder, whose layouts differ by the clock."""

HYBRID: dict[str, Any] = {
    **PAIR,
    "modules": {
        **PAIR["modules"],
        "language": {
            "model": {
                "kind": "decoder", "pattern": "ME*E", "hidden": 2048, "heads": 8, "kv_heads": 4, "vocab": 32768,
                "mamba": {"heads": 32, "head_dim": 64, "groups": 4, "state": 128},
                "moe": {"experts": 8, "top_k": 2, "ffn": 1024, "shared_ffn": 1024, "router": "sigmoid"},
            },
            "layout": {"ranks": [0]},
            "optimizer": {"lr": 1.0e-3},
        },
    },
}  # fmt: skip
"""The same with a decoder of Mamba-2, experts and attention."""


class Small(NamedTuple):
    """The pieces of a search."""

    config: Config
    models: Models
    work: Workload
    hardware: Hardware
    space: Space
    bounds: Bounds
    guess: Guess
    scorer: Scorer

    def walk(self, simulations: int, top: int = 1, memory_gib: float = 80.0) -> Walk:
        """A walk through the space."""
        shortlist = Shortlist(self.space, self.bounds, self.guess, memory_gib * 2**30)
        return Walk(self.space, self.bounds, shortlist, self.scorer, memory_gib * 2**30, simulations, top)


def small(
    data: dict[str, Any], world_size: int, fixed: tuple[str, ...] = (), overrides: tuple[str, ...] = (),
    schedules: tuple[str, ...] = (),
) -> Small:  # fmt: skip
    """A search of a config on so many ranks of an H200, with one drawn step.

    Hosts launch in no time: models this small would take as long on any layout as the launches of their kernels.
    """
    config, hardware = load_config(data, overrides), replace(costs.load("h200"), launch_seconds=0.0)
    models, work = measured(config, 1)
    held = held_keys(config, fixed, overrides)
    space = Space(
        config, models.described, world_size, hardware.ranks_per_node, work.samples, held, schedule_kinds(schedules)
    )
    bounds = Bounds(models, work, hardware)
    guess = Guess(models, work, hardware, Footprints(models, work, hardware))
    return Small(config, models, work, hardware, space, bounds, guess, Scorer(models, world_size, hardware, work.steps))
