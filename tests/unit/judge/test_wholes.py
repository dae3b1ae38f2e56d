"""The loss and every gradient of whole models of pictures, sound and text equal transformers' with the same weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION
from tests.unit.judge.judge import REASON
from tests.unit.judge.test_towers import FLOOR, LIFTED, distance
from tests.unit.judge.wholes import WHOLES, judge_whole, our_loss

pytest.importorskip("transformers", reason=REASON)

NOTICED = 1e-5
"""Of a loss, which many rows have a part in; casts to float32 leave 1e-7."""


@pytest.mark.parametrize("name", WHOLES)
def test_equal_in_float64(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, samples = judge_whole(name, tmp_path, monkeypatch)
    loss, gradients = our_loss(verdict.whole, verdict.weights, samples)
    assert abs(loss - verdict.loss) <= LIFTED * verdict.loss
    for module, found in gradients.items():
        expected = verdict.gradients[module]
        trained = {n: g for n, g in expected.items() if n in found}
        assert trained.keys() == found.keys()
        floor = FLOOR * max(float(gradient.abs().max()) for gradient in trained.values())
        different = {n: distance(found[n], gradient, floor) for n, gradient in trained.items()}
        assert {n: value for n, value in different.items() if value > LIFTED} == {}, module


@pytest.mark.parametrize(
    ("name", "module", "weight"),
    [
        ("llava", VISION, "embed.prefix.weight"),
        ("llava", VISION, "projector.mlp.up.bias"),
        ("qwen2_5_vl", VISION, "norm.weight"),
        ("qwen3_vl", VISION, "taps.2.mlp.down.bias"),
        ("qwen3_vl", LANGUAGE, "layers.2.attention.q_norm.weight"),
        ("nemotron_h_omni", VISION, "projector.norm.weight"),
        ("nemotron_h_omni with sound", AUDIO, "layers.1.conv.gate.weight"),
        ("nemotron_h_omni with sound", AUDIO, "projector.mlp.down.weight"),
    ],
)
def test_a_lost_weight_is_noticed(name: str, module: str, weight: str, tmp_path: Path) -> None:
    verdict, samples = judge_whole(name, tmp_path, None)
    lost = {**verdict.weights[module], weight: torch.zeros_like(verdict.weights[module][weight])}
    loss, _gradients = our_loss(verdict.whole, {**verdict.weights, module: lost}, samples)
    assert abs(loss - verdict.loss) > NOTICED * verdict.loss


def test_depths_and_turns_are_noticed(tmp_path: Path) -> None:
    verdict, samples = judge_whole("qwen3_vl", tmp_path, None)
    whole = verdict.whole
    (first, one), (second, other) = whole.depths
    language = whole.modules[LANGUAGE]
    section = language.model.section.model_copy(update={"rope_interleaved": False})
    in_order = replace(language, model=language.model._replace(section=section))
    for wrong in (
        replace(whole, depths=((first, other), (second, one))),
        replace(whole, modules={**whole.modules, LANGUAGE: in_order}),
    ):
        loss, _gradients = our_loss(wrong, verdict.weights, samples)
        assert abs(loss - verdict.loss) > NOTICED * verdict.loss
