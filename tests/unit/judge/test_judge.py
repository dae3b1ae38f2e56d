"""Logits and gradients of every family equal those of transformers' model with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from tests.unit.judge.judge import REASON, Verdict, judge
from tests.unit.judge.models import CONFIGS, decoder_of, gradients_of, logits_of, our_model, text_batch

pytest.importorskip("transformers", reason=REASON)

LIFTED, AS_IT_IS = 1e-9, 1e-6
NOTICED = 1e-4
ROWS = 29
"""Three chunks of Mamba-2 and a part of a fourth."""


def relative(distance: Tensor, expected: Tensor) -> float:
    """A distance relative to what it is a distance from, in the Frobenius norm; zeros must be met exactly."""
    return (distance.norm() / expected.norm()).item() if distance.any() else 0.0


def tried(name: str, folder: Path, patch: pytest.MonkeyPatch | None) -> tuple[Verdict, TextBatch]:
    """A case's verdict, and the batch that it is about."""
    batch = text_batch(decoder_of(CONFIGS[name]), [ROWS])
    return judge(CONFIGS[name], batch, folder, patch), batch


def our_answer(verdict: Verdict, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and gradients by name, of our model with the judge's weights."""
    chain = our_model(verdict.section, verdict.weights)
    chain(None, batch)[MAIN].backward()
    return logits_of(chain, batch).detach(), gradients_of(chain)


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_in_float64(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, batch = tried(name, tmp_path, monkeypatch)
    logits, gradients = our_answer(verdict, batch)
    assert relative(logits - verdict.logits, verdict.logits) <= LIFTED
    different = {n: relative(g - verdict.gradients[n], verdict.gradients[n]) for n, g in gradients.items()}
    assert {n: value for n, value in different.items() if value > LIFTED} == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_to_the_judge_as_it_is(name: str, tmp_path: Path) -> None:
    """Its float32 sums leave more than rounding in gradients that nearly cancel, so the gradient is one vector here."""
    verdict, batch = tried(name, tmp_path, None)
    logits, gradients = our_answer(verdict, batch)
    assert relative(logits - verdict.logits, verdict.logits) <= AS_IT_IS
    expected = torch.cat([verdict.gradients[n].flatten() for n in gradients])
    found = torch.cat([g.flatten() for g in gradients.values()])
    assert relative(found - expected, expected) <= AS_IT_IS


def changed(section: DecoderConfig, part: str | None, change: dict[str, Any]) -> DecoderConfig:
    """The section with these keys of itself, of its part `mamba` or `moe`, or of the layer of a letter, replaced."""
    if part is None:
        return section.model_copy(update=change)
    if part in section.layers:
        return section.model_copy(update={"layers": {part: section.layers[part].model_copy(update=change)}})
    inner = {"mamba": section.mamba, "moe": section.moe}[part]
    assert inner is not None
    return section.model_copy(update={part: inner.model_copy(update=change)})


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [
        ("llama", None, {"rope_theta": 1000.0}),
        ("llama", None, {"rope_theta": None}),
        ("qwen3", None, {"norm_eps": 2e-3}),
        ("qwen2_vl_text", None, {"rope_sections": (1, 1, 2)}),
        ("qwen3_moe", "moe", {"normalize": False}),
        ("qwen3_moe", "moe", {"top_k": 3}),
        ("nemotron_h_experts", "moe", {"scale": 2.4}),
        ("nemotron_h_experts", "moe", {"router": "softmax"}),
        ("nemotron_h", None, {"norm_eps": 2e-3}),
        ("gemma3", None, {"embedding_scale": 3.9}),
        ("gemma3", None, {"score_scale": None}),
        ("gemma3", None, {"rope_scaling": None}),
        ("gemma3", "W", {"window": 6}),
        ("gemma3", "W", {"rope_theta": 1e6}),
    ],
)
def test_a_wrong_size_is_noticed(name: str, part: str | None, change: dict[str, Any], tmp_path: Path) -> None:
    verdict, batch = tried(name, tmp_path, None)
    wrong = our_model(changed(verdict.section, part, change), verdict.weights)
    assert relative(logits_of(wrong, batch).detach() - verdict.logits, verdict.logits) > NOTICED


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("qwen2", "layers.0.attention.k.bias"),
        ("qwen3", "layers.2.attention.q_norm.weight"),
        ("nemotron_h_experts", "layers.1.moe.router.bias"),
        ("nemotron_h_experts", "layers.1.moe.shared.down.weight"),
        ("nemotron_h", "layers.0.mamba.dynamics.d"),
        ("nemotron_h", "layers.0.mamba.b_conv.bias"),
        ("gemma3", "layers.2.post_norm.weight"),
        ("gemma3", "layers.0.attention.k_norm.weight"),
    ],
)
def test_a_lost_weight_is_noticed(name: str, weight: str, tmp_path: Path) -> None:
    verdict, batch = tried(name, tmp_path, None)
    wrong = our_model(verdict.section, {**verdict.weights, weight: torch.zeros_like(verdict.weights[weight])})
    assert relative(logits_of(wrong, batch).detach() - verdict.logits, verdict.logits) > NOTICED
