"""transformers' own beginnings and defaults: only sizes are set, and no value is drawn that its code draws."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from counterpoint.convert.composite import LANGUAGE, composite_of
from tests.unit.judge.judge import REASON, judge
from tests.unit.judge.models import HYBRID, Config, decoder_of, text_batch
from tests.unit.judge.test_judge import LIFTED, NOTICED, changed, our_answer, relative
from tests.unit.judge.test_towers import FLOOR, distance
from tests.unit.judge.towers import FILM, PICTURE, RADIO
from tests.unit.judge.wholes import AUDIO_TOKEN, HEARING, IMAGE_TOKEN, judge_whole, our_loss

pytest.importorskip("transformers", reason=REASON)

SMALL: Config = {
    "vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip
WIDE: Config = {**SMALL, "hidden_size": 128, "num_attention_heads": 1, "num_hidden_layers": 3}
"""Heads 128 wide, which the pairs of each axis add up to where a config says none."""

STEEP: Config = {**SMALL, "num_attention_heads": 4, "head_dim": 16}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MARKS: Config = {"image_token_id": 22, "video_token_id": 21, "vision_start_token_id": 20}
TEXTS: dict[str, Config] = {
    "llama": {"model_type": "llama", **SMALL},
    "llama of long documents": {
        "model_type": "llama", **STEEP,
        "rope_parameters": {**LLAMA3, "rope_theta": 1e4, "original_max_position_embeddings": 16},
    },
    "llama as long as it is": {
        "model_type": "llama", **STEEP, "max_position_embeddings": 24, "rope_parameters": {**LLAMA3, "factor": 3.0},
    },
    "qwen2": {"model_type": "qwen2", **SMALL},
    "qwen3": {"model_type": "qwen3", **SMALL},
    "qwen3_moe": {
        "model_type": "qwen3_moe", **SMALL, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 10,
    },
    "nemotron_h": {**HYBRID, "mamba_num_heads": 256, "mamba_head_dim": 1},
    "gemma3": {
        "model_type": "gemma3_text", **SMALL, "num_hidden_layers": 6, "head_dim": 16, "sliding_window": 4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        "pad_token_id": None,
    },
}  # fmt: skip
TALL: Config = {**FILM, "depth": 4, "out_hidden_size": 128, "num_position_embeddings": 25}
QWEN3_VL: Config = {
    "model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_text", **WIDE}, **MARKS,
    "vision_config": {**TALL, "deepstack_visual_indexes": [0, 2]},
}  # fmt: skip
IN_ORDER = {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [44, 9, 11], "mrope_interleaved": False}
CLIP: Config = {"model_type": "clip_vision_model", **PICTURE, "image_size": 8}
WHOLES: dict[str, tuple[str, Config]] = {
    "qwen2_5_vl": ("qwen2_5_vl", {
        "model_type": "qwen2_5_vl", "text_config": {"model_type": "qwen2_5_vl_text", **WIDE}, **MARKS,
        "vision_config": {
            **FILM, "depth": 3, "out_hidden_size": 128, "window_size": 8, "fullatt_block_indexes": [1],
        },
    }),
    "qwen3_vl": ("qwen3_vl", QWEN3_VL),
    "qwen3_vl whose sections do not take turns": ("qwen3_vl", {
        **QWEN3_VL, "text_config": {**QWEN3_VL["text_config"], "rope_parameters": IN_ORDER},
    }),
    "qwen3_vl of layers in another order": ("qwen3_vl", {
        **QWEN3_VL, "vision_config": {**TALL, "deepstack_visual_indexes": [2, 3, 0]},
    }),
    "llava": ("llava", {
        "model_type": "llava", "vision_config": CLIP, "text_config": SMALL, "image_token_index": IMAGE_TOKEN,
    }),
    "llava tied at the top": ("llava", {
        "model_type": "llava", "vision_config": CLIP, "text_config": {**SMALL, "tie_word_embeddings": False},
        "image_token_index": IMAGE_TOKEN, "tie_word_embeddings": True,
    }),
    "nemotron_h_omni with sound": ("nemotron_h_omni with sound", {
        "model_type": "nemotron_h_omni", "vision_config": {**RADIO, "video_temporal_patch_size": 2},
        "text_config": TEXTS["nemotron_h"], "audio_config": HEARING["audio_config"], "vision_hidden_size": 16,
        "projector_hidden_size": 24, "image_token_id": IMAGE_TOKEN, "audio_token_id": AUDIO_TOKEN,
    }),
}  # fmt: skip
"""By name of the case, with that of the inputs."""

ROWS = 29
IN_SUITE = {
    "nemotron_h", "gemma3", "llama of long documents", "qwen2_5_vl", "qwen3_vl whose sections do not take turns",
    "qwen3_vl of layers in another order", "llava tied at the top",
}  # fmt: skip


def cases(names: Iterable[str]) -> list[ParameterSet]:
    """All of them, most for whoever changes what reads them."""
    return [pytest.param(name, marks=() if name in IN_SUITE else pytest.mark.more, id=name) for name in names]


@pytest.mark.parametrize("name", cases(TEXTS))
def test_decoders_equal_in_float64(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = text_batch(decoder_of(TEXTS[name]), [ROWS])
    verdict = judge(TEXTS[name], batch, tmp_path, monkeypatch, has_own_start=True)
    logits, gradients = our_answer(verdict, batch)
    assert relative(logits - verdict.logits, verdict.logits) <= LIFTED
    different = {n: relative(g - verdict.gradients[n], verdict.gradients[n]) for n, g in gradients.items()}
    assert {n: value for n, value in different.items() if value > LIFTED} == {}


def test_some_steps_of_mamba_begin_below_the_least(tmp_path: Path) -> None:
    batch = text_batch(decoder_of(TEXTS["nemotron_h"]), [ROWS])
    verdict = judge(TEXTS["nemotron_h"], batch, tmp_path, None, has_own_start=True)
    unclamped = replace(verdict, section=changed(verdict.section, "mamba", {"dt_min": None}))
    _logits, gradients = our_answer(unclamped, batch)
    name = "layers.0.mamba.dynamics.dt_bias"
    assert relative(gradients[name] - verdict.gradients[name], verdict.gradients[name]) > NOTICED


@pytest.mark.parametrize("name", cases(WHOLES))
def test_wholes_equal_in_float64(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, config = WHOLES[name]
    verdict, samples = judge_whole(inputs, tmp_path, monkeypatch, config)
    loss, gradients = our_loss(verdict.whole, verdict.weights, samples)
    assert abs(loss - verdict.loss) <= LIFTED * verdict.loss
    for module, found in gradients.items():
        expected = verdict.gradients[module]
        floor = FLOOR * max(float(expected[n].abs().max()) for n in found)
        different = {n: distance(g, expected[n], floor) for n, g in found.items()}
        assert {n: value for n, value in different.items() if value > LIFTED} == {}, module


def test_the_top_says_whether_words_are_tied() -> None:
    for top, text in ((True, False), (False, True)):
        config = {**WHOLES["llava"][1], "tie_word_embeddings": top}
        whole = composite_of({**config, "text_config": {**SMALL, "tie_word_embeddings": text}})
        assert whole.modules[LANGUAGE].model.section.tied
