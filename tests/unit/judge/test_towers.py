"""What leaves a vision tower, and every gradient, equal transformers' with the same weights, for any picture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.judge.judge import REASON
from tests.unit.judge.models import gradients_of
from tests.unit.judge.towers import TOWERS, judge_tower, our_outputs, our_tower, tower_of, weighted_sum
from tests.unit.models.model_samples import changed

pytest.importorskip("transformers", reason=REASON)

LIFTED = 1e-9
FLOOR = 1e-3
"""Of the largest gradient: that of a key's bias is zero but for rounding."""

NOTICED = 1e-4


def distance(found: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    """The largest difference relative to the largest value, or to a floor."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=floor)).item()


@pytest.mark.parametrize("name", TOWERS)
def test_equal_in_float64(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, images = judge_tower(name, tmp_path, monkeypatch)
    tower = tower_of(verdict.whole)
    chain = our_tower(tower, verdict.weights)
    outputs = our_outputs(chain, images, tower)
    weighted_sum(outputs).backward()
    assert outputs.keys() == verdict.outputs.keys()
    for port, rows in outputs.items():
        assert distance(rows.detach(), verdict.outputs[port]) <= LIFTED, port
    floor = FLOOR * max(float(gradient.abs().max()) for gradient in verdict.gradients.values())
    found = gradients_of(chain)
    assert verdict.gradients.keys() <= found.keys()
    different = {n: distance(found[n], gradient, floor) for n, gradient in verdict.gradients.items()}
    assert {n: value for n, value in different.items() if value > LIFTED} == {}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("clip", {"activation": "gelu"}),
        ("clip", {"norm_eps": 1e-2}),
        ("siglip", {"norm_eps": 1e-2}),
        ("siglip2", {"fit": "stretch"}),
        ("radio", {"fit": "stretch"}),
        ("radio", {"norm_eps": 1e-2}),
        ("convnextv2", {"activation": "quick_gelu"}),
        ("convnextv2", {"norm_eps": 1e-2}),
        ("qwen2_5_vl", {"window": 2}),
        ("qwen2_5_vl", {"window": None}),
        ("qwen2_5_vl", {"full_layers": (0,)}),
        ("qwen2_5_vl", {"rotary_theta": 1000.0}),
        ("qwen3_vl", {"fit": "stretch"}),
        ("qwen3_vl", {"rotary_theta": None}),
        ("qwen3_vl", {"norm_eps": 1e-2}),
    ],
)
def test_a_wrong_size_is_noticed(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    verdict, images = judge_tower(name, tmp_path, None)
    wrong = changed(tower_of(verdict.whole), **change)
    outputs = our_outputs(our_tower(wrong, verdict.weights), images, wrong)
    assert max(distance(rows.detach(), verdict.outputs[port]) for port, rows in outputs.items()) > NOTICED


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("clip", "embed.prefix.weight"),
        ("clip", "embed.norm.bias"),
        ("siglip", "embed.patch.bias"),
        ("siglip2", "embed.positions.weight"),
        ("radio", "embed.prefix.weight"),
        ("radio", "layers.1.attention_scale.weight"),
        ("convnextv2", "layers.1.depthwise.weight"),
        ("convnextv2", "layers.2.mlp.response_norm.weight"),
        ("convnextv2", "halve.2.merge.bias"),
        ("qwen2_5_vl", "layers.2.attention.v.bias"),
        ("qwen2_5_vl", "projector.mlp.up.bias"),
        ("qwen3_vl", "taps.2.norm.bias"),
        ("qwen3_vl", "embed.positions.weight"),
    ],
)
def test_a_lost_weight_is_noticed(name: str, weight: str, tmp_path: Path) -> None:
    verdict, images = judge_tower(name, tmp_path, None)
    tower = tower_of(verdict.whole)
    lost = {**verdict.weights, weight: torch.zeros_like(verdict.weights[weight])}
    outputs = our_outputs(our_tower(tower, lost), images, tower)
    assert max(distance(rows.detach(), verdict.outputs[port]) for port, rows in outputs.items()) > NOTICED
