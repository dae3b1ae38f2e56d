"""Small configs whose rows take more memory than their parameters, in layouts of two ranks."""

from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config

BOTH = [0, 1]
_OPTIMIZER = {"lr": 1.0e-3}
_IMAGE, _PATCHES, _TOKENS = 64, 256, 256
_DECODER = {"kind": "decoder", "hidden": 64, "heads": 8, "kv_heads": 4, "head_dim": 8, "ffn": 192, "vocab": 160}


def _constant(value: int) -> dict[str, object]:
    return {"kind": "constant", "value": value}


def _config(modules: dict[str, Any], synthetic: dict[str, Any], overrides: list[str]) -> Config:
    data = {
        "schema": 1,
        "run": {"dir": "runs/memory", "device": "cpu"},
        "world": {"size": len(BOTH)},
        "modules": modules,
        "edges": [{"source": "vision", "target": "language"}] if "vision" in modules else [],
        "schedule": {"microbatches": 2},
        "data": {"train": [{"synthetic": {"documents": 64, **synthetic}}], "sequence_tokens": _TOKENS},
        "training": {"steps": 10, "global_batch_samples": 8},
    }
    return load_config(data, overrides)


def pair(*overrides: str, vision: str = "{ranks: [0, 1]}", language: str = "{ranks: [0, 1]}") -> Config:
    """A ViT and a decoder; half of the rows of a document are those of two images."""
    tower = {
        "kind": "vit", "layers": 2, "hidden": 64, "heads": 4, "ffn": 256, "patch": 4, "positions": 8, "merge": 2,
        "image": {"max_patches": _PATCHES}, "projector": {"kind": "mlp", "hidden": 96},
    }  # fmt: skip
    modules = {
        "vision": {"model": tower, "layout": {"ranks": BOTH}, "optimizer": _OPTIMIZER},
        "language": {
            "model": {**_DECODER, "pattern": "*-*-*-*-", "tied": False},
            "layout": {"ranks": BOTH}, "optimizer": _OPTIMIZER,
        },
    }  # fmt: skip
    synthetic = {
        "text_tokens": _constant(_TOKENS - _PATCHES // 2), "images_per_document": _constant(2),
        "image_height": _constant(_IMAGE), "image_width": _constant(_IMAGE),
    }  # fmt: skip
    layouts = [f"modules.vision.layout={vision}", f"modules.language.layout={language}"]
    return _config(modules, synthetic, [*layouts, *overrides])


def hybrid(*overrides: str, language: str) -> Config:
    """A decoder with Mamba-2, experts, attention and an MLP."""
    model = {
        **_DECODER, "pattern": "M-E*ME", "activation": "relu2", "tied": False,
        "mamba": {"heads": 8, "head_dim": 16, "groups": 4, "state": 16, "chunk": 32},
        "moe": {"experts": 8, "top_k": 2, "ffn": 64, "shared_ffn": 128, "router": "sigmoid", "balance": 0.01},
    }  # fmt: skip
    modules = {"language": {"model": model, "layout": {"ranks": BOTH}, "optimizer": _OPTIMIZER}}
    return _config(modules, {"text_tokens": _constant(_TOKENS)}, [f"modules.language.layout={language}", *overrides])


LAYOUTS: dict[str, Config] = {
    "dp2": pair(),
    "disjoint": pair(vision="{ranks: [0]}", language="{ranks: [1]}"),
    "disjoint, 1 microbatch": pair("schedule.microbatches=1", vision="{ranks: [0]}", language="{ranks: [1]}"),
    "disjoint, a frozen encoder": pair(
        "schedule.microbatches=1", "modules.vision.train=none", vision="{ranks: [0]}", language="{ranks: [1]}"
    ),
    "disjoint, encoder first, recomputed": pair(
        "schedule.microbatches=4",
        "schedule.encoder=first",
        "modules.language.recompute=full",
        "modules.vision.recompute=full",
        "modules.vision.recompute_keeps=[attention]",
        vision="{ranks: [0]}",
        language="{ranks: [1]}",
    ),
    "dp2 under tp2": pair(language="{ranks: [0, 1], tp: 2}"),
    "tp2": pair(vision="{ranks: [0, 1], tp: 2}", language="{ranks: [0, 1], tp: 2}"),
    "cp2": pair(language="{ranks: [0, 1], cp: 2}"),
    "pp2": pair("schedule.microbatches=4", language="{ranks: [0, 1], pp: 2}"),
    "zero bubble": pair("schedule.microbatches=4", "schedule.kind=zero_bubble", language="{ranks: [0, 1], pp: 2}"),
    "dp2 under pp2, 8 microbatches": pair(
        "schedule.microbatches=8", "training.global_batch_samples=16", language="{ranks: [0, 1], pp: 2}"
    ),
    "recomputed whole": pair("modules.language.recompute=full", "modules.vision.recompute=full"),
    "recomputed": pair("modules.language.recompute=full", "modules.vision.recompute=[norms, activations]"),
    "frozen encoder": pair("modules.vision.train=none"),
    "frozen decoder": pair("modules.language.train=none"),
    "resharded": pair(language="{ranks: [0, 1], reshard: true}"),
    "ep2": hybrid(language="{ranks: [0, 1], expert: {ep: 2}}"),
    "ep2 and parts": hybrid(
        "modules.language.recompute=[norms, activations, convs]", language="{ranks: [0, 1], expert: {ep: 2}}"
    ),
}
