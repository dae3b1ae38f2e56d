# ruff: noqa: E501 (a table reads best with a tower to a line)
"""Vision towers as others build them, each small, in the place of tiny.yaml's; and layouts in which each is tried."""

from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.command import as_verified
from tests.parity.layouts import TINY, override, pair, ranks

SHAPE = {"kind": "vit", "layers": 4, "hidden": 24, "heads": 12, "ffn": 24, "patch": 4, "image": {"max_patches": 16}}
"""What all of them have; towers that turn heads by rows and columns have fewer and wider ones."""

ROTARY = {"heads": 6, "rotary_theta": 100.0}

TOWERS: dict[str, dict[str, Any]] = {
    "clip": {"positions": 4, "prefix": 1, "patch_bias": False, "embed_norm": True, "activation": "quick_gelu", "final_norm": False, "projector": {"kind": "mlp", "hidden": 24, "activation": "gelu"}},
    "siglip": {"positions": 4, "projector": {"kind": "linear"}},
    "siglip2": {"positions": 5, "fit": "antialias", "merge": 2, "projector": {"kind": "mlp", "hidden": 24}},
    "radio": {"positions": 6, "fit": "crop", "prefix": 3, "merge": 2, "patch_bias": False, "activation": "gelu", "layer_scale": True, "final_norm": False, "projector": {"kind": "mlp", "hidden": 24, "norm": "rms", "activation": "relu2", "bias": False}},
    "qwen2_5_vl": {**ROTARY, "positions": 0, "frames": 2, "merge": 2, "window": 2, "full_layers": [1, 3], "norm": "rms", "activation": "swiglu", "patch_bias": False, "projector": {"kind": "mlp", "hidden": 96, "activation": "gelu"}},
    "qwen3_vl": {**ROTARY, "positions": 5, "fit": "corners", "frames": 2, "merge": 2, "tap_norm": "layer", "projector": {"kind": "mlp", "hidden": 96, "activation": "gelu"}},
}  # fmt: skip

DEPTHS = {"qwen3_vl": [{"after": 0, "into": 0}, {"after": 2, "into": 1}]}
"""Features of several depths, of the towers that hand them on."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "tp2_pp2_to_dp2": pair(6, {"ranks": ranks(0, 4), "tp": 2, "pp": 2}, {"ranks": ranks(4, 2)}, schedule__microbatches=3),
    "cp2_dp2_to_tp2_pp2": pair(4, {"ranks": ranks(0, 4), "cp": 2}, {"ranks": ranks(0, 4), "tp": 2, "pp": 2}, schedule__kind="zero_bubble"),
}  # fmt: skip


def encoder_base(tower: str) -> Config:
    """tiny.yaml with another tower, in float64."""
    config = override(load_config(TINY), {"modules.vision.model": SHAPE | TOWERS[tower], "edges": _edges(tower)})
    return as_verified(config, "float64")


def encoder_config(tower: str, layout: str) -> Config:
    """A tower in a named layout."""
    return override(encoder_base(tower), LAYOUTS[layout])


def _edges(tower: str) -> list[dict[str, Any]]:
    return [{"source": "vision", "target": "language", "depths": DEPTHS.get(tower, [])}]
