"""Configs as NVIDIA publishes them beside programs of its own: read where they are certain, else refused by name."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, composite_of
from counterpoint.convert.found import as_found
from counterpoint.convert.modules import kept_tensors
from counterpoint.convert.processor import scaling_in
from counterpoint.errors import CheckpointError
from counterpoint.families.vit.spec import VitConfig
from tests.unit.judge.folders import write_tensors

Config = dict[str, Any]

TEACHERS = [{"name": name, "use_summary": name != "sam"} for name in ("clip", "siglip", "dino_v2", "sam")]
ARGS: Config = {
    "model": "vit_huge_patch16_224", "cpe_max_size": 2048, "register_multiple": 10, "cls_token_per_teacher": True,
    "teachers": TEACHERS, "in_chans": None, "input_size": None, "model_kwargs": {}, "model_norm": False,
    "spectral_reparam": False, "lr_base": 0.001, "wandb_name": "x", "mlp_version": "v2", "dtype": "bfloat16",
    "cpe_num_registers": None, "auto_workload_inspector": False, "checkpoint_folder": None, "epoch": 299,
    "detect_anomaly": False, "force_disable_damp": False,
}  # fmt: skip
RADIO: Config = {
    "architectures": ["RADIOModel"], "args": ARGS, "version": "c-radio_v4-h", "patch_size": 16, "max_resolution": 2048,
    "preferred_resolution": [768, 768], "adaptor_names": None, "adaptor_configs": {}, "vitdet_window_size": None,
    "feature_normalizer_config": None, "inter_feature_normalizer_config": None, "torch_dtype": "bfloat16",
    "auto_map": {"AutoConfig": "hf_model.RADIOConfig", "AutoModel": "hf_model.RADIOModel"},
}  # fmt: skip
TEXT: Config = {
    "model_type": "nemotron_h", "hidden_size": 2688, "num_hidden_layers": 52, "vocab_size": 131072,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "num_attention_heads": 32,
    "num_key_value_heads": 2, "head_dim": 128, "rope_theta": 10000, "partial_rotary_factor": 1.0,
    "max_position_embeddings": 262144, "mamba_num_heads": 64, "mamba_head_dim": 64, "n_groups": 8,
    "ssm_state_size": 128, "conv_kernel": 4, "expand": 2, "chunk_size": 128, "time_step_limit": [0.0, 1e30],
    "n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856, "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 3712, "routed_scaling_factor": 2.5, "intermediate_size": 1856,
    "norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "pad_token_id": 0,
}  # fmt: skip
SOUND: Config = {
    "model_type": "parakeet", "hidden_size": 1024, "num_attention_heads": 8, "num_hidden_layers": 24,
    "intermediate_size": 4096, "conv_kernel_size": 9, "convolution_bias": False, "subsampling_conv_channels": 256,
    "subsampling_conv_kernel_size": 3, "subsampling_conv_stride": 2, "subsampling_factor": 8, "num_mel_bins": 128,
    "projection_hidden_size": 4096, "projection_bias": False, "sampling_rate": 16000,
}  # fmt: skip
OMNI: Config = {
    "architectures": ["NemotronH_Nano_Omni_Reasoning_V3"], "model_type": "NemotronH_Nano_Omni_Reasoning_V3",
    "torch_dtype": "bfloat16", "max_sequence_length": 131072, "force_image_size": 512, "patch_size": 16,
    "downsample_ratio": 0.5, "use_thumbnail": True, "ps_version": "v2", "template": "x", "image_tag_type": "internvl",
    "vit_hidden_size": 1280, "projector_hidden_size": 20480, "video_pruning_rate": 0.7, "eos_token_id": 11,
    "video_temporal_patch_size": 2, "img_context_token_id": 18, "sound_context_token_id": 27,
    "norm_mean": [0.48145466, 0.4578275, 0.40821073], "norm_std": [0.26862954, 0.26130258, 0.27577711],
    "vision_config": {**RADIO, "separate_video_embedder": True, "video_temporal_patch_size": 2},
    "llm_config": TEXT, "sound_config": SOUND,
}  # fmt: skip


def parameters(whole: CompositeModel, module: str) -> int:
    """Number of parameters that are stored of a module."""
    return sum(tensor.numel() for tensor in kept_tensors(whole.modules[module]).values())


def test_a_published_radio_has_the_sizes_of_its_tower() -> None:
    whole = composite_of(RADIO)
    section: VitConfig = whole.modules[VISION].model.section
    assert (section.hidden, section.layers, section.heads, section.ffn) == (1280, 32, 16, 5120)
    assert (section.positions, section.prefix, section.patch, section.channels) == (128, 10, 16, 3)
    assert (section.activation, section.norm_eps, section.final_norm) == ("gelu", 1e-6, False)
    # Of transformers' own RadioConfig, but for its number of class tokens, 3 of 10 learned rows.
    assert section == composite_of({"model_type": "radio"}).modules[VISION].model.section
    whole_tower = 651_000_000
    assert 0.99 * whole_tower < parameters(whole, VISION) < 1.01 * whole_tower


def test_its_layer_scale_is_one_and_its_heads_are_not_read() -> None:
    whole = composite_of(RADIO)
    found = {n for link in whole.modules[VISION].links for n in link.theirs if "layer_scale" not in n}
    links = as_found(whole, found, lambda _one, _other: True).modules[VISION].links
    filled = [link for link in links if not link.theirs]
    assert len(filled) == 64
    assert all(torch.equal(link.to_ours([])[0], torch.ones(1280, dtype=torch.float64)) for link in filled)
    assert any(fnmatchcase("radio_model.adaptors.siglip.head.weight", pattern) for pattern in whole.unused)


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        ("args", {"model": "vit_giant_patch14_dinov2"}, "args says model: 'vit_giant_patch14_dinov2', but"),
        ("args", {"model_norm": True}, "args says model_norm: True, but only False"),
        ("args", {"spectral_reparam": True}, "args says spectral_reparam: True, but only False"),
        ("args", {"model_kwargs": {"init_values": 1e-5}}, "args says model_kwargs: {'init_values': 1e-05}, but only"),
        ("args", {"a_new_one": 3}, "args says a_new_one: 3, of which nothing is known here"),
        ("args", {"teachers": ["clip"]}, "args says teachers: 'clip', but only teachers with names"),
        ("args", {"teachers": None}, "args says teachers: None, but only a list of teachers"),
        (None, {"vitdet_window_size": 16}, "says vitdet_window_size: 16, but only null"),
        (None, {"feature_normalizer_config": {"embed_dim": 1280}}, "says feature_normalizer_config: "),
        (None, {"patch_size": 14}, "says patch_size: 14, but only 16"),
        (None, {"hidden_size": 1280}, "says hidden_size: 1280, of which nothing is known here"),
        (None, {"architectures": ["OtherModel"]}, "has no model_type"),
    ],
)  # fmt: skip
def test_what_is_not_certain_of_a_radio_is_refused(where: str | None, change: Mapping[str, Any], words: str) -> None:
    config = {**RADIO, **change} if where is None else {**RADIO, where: {**ARGS, **change}}
    with pytest.raises(CheckpointError) as caught:
        composite_of(config)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "prefix"),
    [
        ({"register_multiple": 8}, 8),
        ({"register_multiple": None}, 4),
        ({"register_multiple": 4}, 8),
        ({"register_multiple": 10, "cpe_num_registers": 4}, 8),
        ({"register_multiple": 8, "cpe_num_registers": 0}, 8),
        ({"cls_token_per_teacher": False, "register_multiple": 8}, 8),
        ({"teachers": [*TEACHERS, TEACHERS[0]], "register_multiple": 0}, 4),
    ],
)
def test_registers_fill_up_class_tokens(change: Mapping[str, Any], prefix: int) -> None:
    whole = composite_of({**RADIO, "args": {**ARGS, **change}})
    assert whole.modules[VISION].model.section.prefix == prefix


def test_a_radio_without_a_model_type_scales_pixels_as_one_with(tmp_path: Path) -> None:
    for name, config in (("one", RADIO), ("other", {"model_type": "radio"})):
        write_tensors(tmp_path / name, config, {"a": torch.zeros(1)})
    assert scaling_in(tmp_path / "one").values == scaling_in(tmp_path / "other").values != {}


def test_a_published_omni_is_read_whole() -> None:
    whole = composite_of(OMNI)
    assert tuple(whole.modules) == (VISION, AUDIO, LANGUAGE)
    language = whole.modules[LANGUAGE].model.section
    assert (language.pattern.count("M"), language.pattern.count("E"), language.pattern.count("*")) == (23, 23, 6)
    sound = whole.modules[AUDIO].model.section
    # Left out in the file, where transformers fills in other values than for a Parakeet alone.
    assert (sound.bias, sound.scale_input, sound.conv_bias) == (False, False, False)
    billions = parameters(whole, LANGUAGE) / 1e9
    assert 31 < billions < 32
    with pytest.raises(CheckpointError, match="says ps_version: 'v1', but only 'v2'"):
        composite_of({**OMNI, "ps_version": "v1"})
    with pytest.raises(CheckpointError, match="audio_config says sampling_rate: 8000, but only 16000"):
        composite_of({**OMNI, "sound_config": {**SOUND, "sampling_rate": 8000}})
