# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Encoders as users bring them, registered where this is imported, and layouts in which each is tried."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import counterpoint
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.kinds.family import Model
from counterpoint.setup.plan import models_of
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from tests.parity.layouts import TINY, override, pair, ranks

PATCH = 4


class Block(nn.Module):
    """Attention and MLP over (images, tokens, width), whose heads are counted from the rows at hand."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.5)

    def forward(self, rows: Tensor) -> Tensor:
        seen = self.ln1(rows)
        q, k, v = (layer(seen).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        rows = rows + self.drop(self.out(mixed))
        out: Tensor = rows + self.fc2(F.gelu(self.fc1(self.ln2(rows))))
        return out


class Vit(nn.Module):
    """A class token, positions that are a buffer, an unused parameter, and batch statistics in front."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        width = options["width"]
        self.stem = nn.BatchNorm2d(3)
        self.patch = nn.Conv2d(3, width, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.register_buffer("waves", torch.linspace(0.1, 2.0, width))
        self.order = nn.Buffer(torch.arange(64), persistent=False)
        self.blocks = nn.ModuleList(Block(width, 6) for _ in range(options.get("depth", 2)))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = self.patch(self.stem(pixels)).flatten(2).transpose(1, 2)
        places = self.order[: rows.shape[1]].to(rows.dtype)
        waves: Tensor = self.waves  # type: ignore[assignment]
        rows = rows + torch.sin(places[:, None] * waves.to(rows.dtype))
        rows = torch.cat([self.cls_token.expand(len(rows), -1, -1), rows], dim=1)
        for block in self.blocks:
            rows = block(rows)
        out: Tensor = self.norm(rows)[:, 1:]
        return out


def conv_net(options: Mapping[str, Any]) -> nn.Module:
    """Convolutions of stride 2, with groups' norms."""
    width = options["width"]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.GELU(),
        nn.Conv2d(8, width, 3, 2, 1, bias=False), nn.Flatten(2), Transposed(),
    )  # fmt: skip


class Transposed(nn.Module):
    """(images, width, tokens) to (images, tokens, width)."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.transpose(1, 2)


def conv_weights(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights to start from, of a seed of their own."""
    generator = torch.Generator().manual_seed(7)
    shapes = {name: parameter.shape for name, parameter in conv_net(options).named_parameters()}
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


VIT_RULES: dict[str, Any] = {
    "blocks.*.[qkv]": "outputs",
    "blocks.*.out": "inputs",
    "blocks.*.fc1": "outputs",
    "blocks.*.fc2": "inputs",
}

counterpoint.register_module(
    "test_vit", Vit, tensor_rules=VIT_RULES, initial={"cls_token": (0.0, 1.0), "blocks.*.weight": (0.0, 0.2)}
)
counterpoint.register_module("test_conv", conv_net, weights=conv_weights)

MODELS: dict[str, dict[str, Any]] = {
    "test_vit": {"merge": 2, "layers": 2, "projector": {"kind": "mlp", "hidden": 24}},
    "test_conv": {"merge": 1, "projector": {"kind": "linear", "norm": "rms"}},
}

SPARSE = {
    "text_tokens": {"kind": "uniform", "low": 1, "high": 9},
    "images_per_document": {"kind": "constant", "value": 1},
    "without_images": 0.85,
    "image_height": {"kind": "uniform", "low": 8, "high": 24},
    "image_width": {"kind": "uniform", "low": 8, "high": 24},
}
"""So few images that lanes have none."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "one": pair(1, {"ranks": [0]}, {"ranks": [0]}),
    "dp2": pair(3, {"ranks": [0, 1]}, {"ranks": [2]}, schedule__microbatches=3),
    "dp4_to_tp2": pair(4, {"ranks": ranks(0, 4), "dp_shard": 4, "reshard": True}, {"ranks": ranks(0, 4), "tp": 2}),
    "replicas_zero_bubble": pair(4, {"ranks": ranks(0, 4), "dp_replicate": 2, "dp_shard": 2}, {"ranks": ranks(0, 4), "pp": 2}, schedule__kind="zero_bubble"),
    "recomputed": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3]}, modules__vision__recompute="full"),
    "projector_only": pair(3, {"ranks": [0, 1]}, {"ranks": [2]}, modules__vision__train=["projector.*"]),
    "patterns": pair(3, {"ranks": [0, 1]}, {"ranks": [2]}, modules__vision__train=["embed.tower.*.weight"]),
}  # fmt: skip

TENSOR_LAYOUTS: dict[str, dict[str, Any]] = {
    "tp2": pair(4, {"ranks": [0, 1], "tp": 2}, {"ranks": [2, 3], "tp": 2}),
    "tp3_without_sp": pair(3, {"ranks": ranks(0, 3), "tp": 3, "sequence_parallel": False}, {"ranks": ranks(0, 3)}),
    "tp2_dp2_recomputed": pair(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4), "pp": 2}, modules__vision__recompute="full"),
}  # fmt: skip


def brought_base(name: str, sparse: bool = False) -> Config:
    """tiny.yaml with a registered encoder, in float64."""
    model = {
        "kind": "custom", "name": name, "hidden": 24, "patch": PATCH, "options": {"width": 24},
        "image": {"max_patches": 16}, **MODELS[name],
    }  # fmt: skip
    overrides: dict[str, Any] = {"modules.vision.model": model}
    if sparse:
        overrides["data.train"] = [{"synthetic": {"documents": 64} | SPARSE}]
    return as_verified(override(load_config(TINY), overrides), "float64")


def brought_model(name: str) -> Model:
    """A registered encoder as it stands in that run."""
    return models_of(brought_base(name), None)["vision"]


def brought_config(name: str, layout: str, sparse: bool = False) -> Config:
    """A registered encoder in a named layout."""
    return override(brought_base(name, sparse), (LAYOUTS | TENSOR_LAYOUTS)[layout])


def verify_brought_task(member: Member, config: Config) -> CaseResult | None:
    """A pool task of this file, so that the ranks import it."""
    return verify_task(member, config)
