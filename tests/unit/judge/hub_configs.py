"""Random tiny config.json of every family: sizes are drawn within what transformers takes."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.unit.judge.models import Config

IMAGE_TOKEN, AUDIO_TOKEN, VIDEO_TOKEN, START_TOKEN = 22, 21, 20, 19
"""Words of composite models that stand for items; documents use those below."""

SIDE = 4
"""Rows and columns of the pictures of towers that take pictures of one size only, in patches."""


def random_config(family: str, seed: int) -> Config:
    """The config.json of a family, drawn from a seed."""
    draw = Random(f"{family} {seed}")
    return _FAMILIES[family](draw)


def _llama(draw: Random) -> Config:
    rope: Config = {"rope_type": "default", "rope_theta": draw.choice([77.0, 500.0, 1e4])}
    if draw.random() < 0.5:
        rope |= {
            "rope_type": "llama3", "factor": draw.choice([2.0, 8.0]), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": draw.choice([16, 64]),
        }  # fmt: skip
    bias = draw.random() < 0.3
    return {
        "model_type": "llama", **_text(draw), "rope_parameters": rope, "mlp_bias": bias, "attention_bias": bias,
        "tie_word_embeddings": draw.random() < 0.5,
    }  # fmt: skip


def _qwen2(draw: Random) -> Config:
    return {"model_type": "qwen2", **_text(draw), **_rope(draw), "tie_word_embeddings": draw.random() < 0.5}


def _qwen3(draw: Random) -> Config:
    return {
        "model_type": "qwen3", **_text(draw), **_rope(draw), "head_dim": draw.choice([4, 6, 10]),
        "tie_word_embeddings": draw.random() < 0.5,
    }  # fmt: skip


def _qwen3_moe(draw: Random) -> Config:
    experts, blocks = draw.choice([4, 5, 6]), draw.randint(1, 3)
    return {
        "model_type": "qwen3_moe", **_text(draw), **_rope(draw), "head_dim": draw.choice([4, 6]),
        "num_hidden_layers": blocks, "num_experts": experts, "num_experts_per_tok": draw.randint(1, 3),
        "moe_intermediate_size": draw.choice([6, 10]), "norm_topk_prob": draw.random() < 0.5,
        "decoder_sparse_step": draw.choice([1, 1, 2]), "mlp_only_layers": [0] if draw.random() < 0.3 else [],
    }  # fmt: skip


def _nemotron(draw: Random) -> Config:
    groups = draw.choice([1, 2])
    return {
        "model_type": "nemotron_h", **_text(draw, layered=False), "head_dim": draw.choice([4, 6]),
        "layers_block_type": [
            "linear_attention", "moe", *draw.sample(["full_attention", "mlp", "linear_attention", "moe"], k=3),
        ],
        "mamba_num_heads": groups * draw.randint(1, 3), "mamba_head_dim": draw.choice([4, 6]), "n_groups": groups,
        "ssm_state_size": draw.choice([3, 5]), "conv_kernel": draw.choice([2, 4]), "chunk_size": 8,
        "n_routed_experts": draw.choice([4, 8]), "num_experts_per_tok": draw.randint(1, 3),
        "moe_intermediate_size": draw.choice([6, 10]), "moe_shared_expert_intermediate_size": draw.choice([10, 14]),
        "routed_scaling_factor": draw.choice([1.0, 2.5]), "norm_topk_prob": draw.random() < 0.7,
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
    }  # fmt: skip


def _gemma(draw: Random) -> Config:
    kinds = ["sliding_attention", *draw.choices(["sliding_attention", "full_attention"], k=draw.randint(1, 2))]
    return {
        "model_type": "gemma3_text", **_text(draw), "num_hidden_layers": len(kinds), "layer_types": kinds,
        "head_dim": draw.choice([4, 6]), "sliding_window": draw.choice([3, 5]),
        "query_pre_attn_scalar": draw.choice([6, 48]), "pad_token_id": None,
        "tie_word_embeddings": draw.random() < 0.6, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": draw.choice([2.0, 8.0]), "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": draw.choice([50.0, 1e4])},
        },
    }  # fmt: skip


def _clip(draw: Random) -> Config:
    return {
        "model_type": "clip_vision_model", **_square(draw), "hidden_act": draw.choice(["quick_gelu", "gelu"]),
        "layer_norm_eps": draw.choice([1e-5, 1e-3]),
    }  # fmt: skip


def _siglip(draw: Random) -> Config:
    return {"model_type": "siglip_vision_model", **_square(draw), "layer_norm_eps": draw.choice([1e-6, 1e-3])}


def _siglip2(draw: Random) -> Config:
    return {"model_type": "siglip2_vision_model", **_picture(draw), "num_patches": draw.choice([9, 25])}


def _radio(draw: Random) -> Config:
    patch, picture = draw.choice([2, 3]), _picture(draw)
    del picture["intermediate_size"]
    return {
        "model_type": "radio", **picture, "patch_size": patch, "mlp_ratio": draw.choice([1.5, 2.0]),
        # The side of the table is rounded down to whole patches.
        "max_img_size": patch * draw.choice([4, 5]) + draw.randint(0, 1), "num_cls_tokens": draw.randint(1, 3),
        "num_registers": draw.randint(0, 2), "summary_idxs": [0], "layer_norm_eps": draw.choice([1e-6, 1e-3]),
    }  # fmt: skip


def _convnext(draw: Random) -> Config:
    stages = draw.randint(2, 3)
    return {
        "model_type": "convnextv2", "num_stages": stages, "depths": [draw.randint(1, 2) for _ in range(stages)],
        "hidden_sizes": [8, 12, 16][:stages], "patch_size": draw.choice([2, 3]), "image_size": 8,
    }  # fmt: skip


def _film(draw: Random, *, out: int) -> Config:
    heads = draw.choice([1, 2])
    return {
        "hidden_size": heads * draw.choice([8, 12]), "num_heads": heads, "intermediate_size": draw.choice([10, 20]),
        "patch_size": 2, "out_hidden_size": out, "spatial_merge_size": 2,
    }  # fmt: skip


def _qwen2_5_tower(draw: Random, out: int = 16) -> Config:
    depth = draw.randint(2, 3)
    return {
        "model_type": "qwen2_5_vl_vision", **_film(draw, out=out), "depth": depth, "window_size": draw.choice([4, 8]),
        "fullatt_block_indexes": [draw.randrange(depth)],
    }  # fmt: skip


def _qwen3_tower(draw: Random, out: int = 16) -> Config:
    depth = draw.randint(3, 4)
    return {
        "model_type": "qwen3_vl_vision", **_film(draw, out=out), "depth": depth,
        "deepstack_visual_indexes": draw.sample(range(depth), k=draw.choice([1, 2])),
        "num_position_embeddings": draw.choice([16, 25]),
    }  # fmt: skip


def _pair(family: str) -> Callable[[Random], Config]:
    def pair(draw: Random) -> Config:
        text = {
            "hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_hidden_layers": 1,
            "vocab_size": 23, "max_position_embeddings": 7, "eos_token_id": 1,
        }  # fmt: skip
        return {"model_type": family, "vision_config": _FAMILIES[f"{family}_vision_model"](draw), "text_config": text}

    return pair


def _whisper(draw: Random) -> Config:
    heads = draw.choice([1, 2, 4])
    return {
        "model_type": "whisper", "vocab_size": 30, "d_model": 4 * heads, "encoder_layers": draw.randint(1, 3),
        "encoder_attention_heads": heads, "encoder_ffn_dim": draw.choice([12, 20]), "decoder_layers": 1,
        "decoder_attention_heads": heads, "decoder_ffn_dim": 20, "num_mel_bins": draw.choice([8, 16]),
        "max_source_positions": draw.choice([50, 100]), "max_target_positions": 12, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    }  # fmt: skip


def _parakeet(draw: Random) -> Config:
    return {
        "model_type": "parakeet_encoder", "hidden_size": 16, "num_hidden_layers": draw.randint(1, 2),
        "num_attention_heads": draw.choice([1, 2]), "intermediate_size": 20, "conv_kernel_size": draw.choice([3, 5]),
        "subsampling_conv_channels": 4, "num_mel_bins": 16, "subsampling_factor": draw.choice([4, 8]),
        "attention_bias": draw.random() < 0.5, "convolution_bias": draw.random() < 0.5,
        "scale_input": draw.random() < 0.5,
    }  # fmt: skip


def _parakeet_ctc(draw: Random) -> Config:
    return {"model_type": "parakeet_ctc", "vocab_size": 23, "encoder_config": _parakeet(draw)}


def _llava(draw: Random) -> Config:
    tower = {**_clip(draw), "num_hidden_layers": draw.randint(2, 3)}
    tied = draw.random() < 0.5
    return {
        "model_type": "llava", "vision_config": tower, "text_config": {**_llama(draw), "tie_word_embeddings": False},
        "image_token_index": IMAGE_TOKEN, "vision_feature_layer": draw.choice([-1, -2]), "tie_word_embeddings": tied,
        "multimodal_projector_bias": draw.random() < 0.7,
    }  # fmt: skip


def _qwen2_5_vl(draw: Random) -> Config:
    text, (width, sections) = _text(draw), draw.choice([(8, [1, 2, 1]), (12, [2, 2, 2])])
    hidden = width * text["num_attention_heads"]
    rope = {"rope_type": "default", "rope_theta": draw.choice([77.0, 500.0]), "mrope_section": sections}
    return {
        "model_type": "qwen2_5_vl", "vision_config": _qwen2_5_tower(draw, hidden), "text_config": {
            "model_type": "qwen2_5_vl_text", **text, "hidden_size": hidden, "rope_parameters": rope,
        }, **_MARKS, "tie_word_embeddings": draw.random() < 0.5,
    }  # fmt: skip


def _qwen3_vl(draw: Random) -> Config:
    text = {**_text(draw), "num_hidden_layers": draw.randint(2, 3), "head_dim": 12}
    rope = {
        "rope_type": "default", "rope_theta": draw.choice([77.0, 500.0]), "mrope_section": [3, 1, 2],
        "mrope_interleaved": True,
    }  # fmt: skip
    return {
        "model_type": "qwen3_vl", "vision_config": _qwen3_tower(draw, text["hidden_size"]),
        "text_config": {"model_type": "qwen3_vl_text", **text, "rope_parameters": rope}, **_MARKS,
        "tie_word_embeddings": draw.random() < 0.5,
    }  # fmt: skip


def _omni(draw: Random) -> Config:
    tower = _radio(draw)
    return {
        "model_type": "nemotron_h_omni", "vision_config": {**tower, "video_temporal_patch_size": 2},
        "text_config": _nemotron(draw), "vision_hidden_size": tower["hidden_size"],
        "projector_hidden_size": draw.choice([12, 24]), "image_token_id": IMAGE_TOKEN,
    }  # fmt: skip


def _hearing(draw: Random) -> Config:
    sound = {key: value for key, value in _parakeet(draw).items() if key not in ("attention_bias", "scale_input")}
    more = {"projection_hidden_size": draw.choice([12, 20]), "projection_bias": draw.random() < 0.5}
    return {**_omni(draw), "audio_token_id": AUDIO_TOKEN, "audio_config": {**sound, **more}}


def _text(draw: Random, *, layered: bool = True) -> Config:
    """What decoders have in common."""
    heads = draw.choice([2, 4])
    blocks: Config = {"num_hidden_layers": draw.randint(1, 3), "rms_norm_eps": draw.choice([1e-6, 1e-3])}
    return {
        "vocab_size": draw.choice([23, 26, 31]), "hidden_size": heads * draw.choice([4, 6]),
        "intermediate_size": draw.choice([10, 20]), "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([1, 2, heads]), **(blocks if layered else {}),
    }  # fmt: skip


def _rope(draw: Random) -> Config:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": draw.choice([77.0, 500.0, 1e6])}}


def _picture(draw: Random) -> Config:
    """What towers of pictures have in common."""
    heads = draw.choice([1, 2, 4])
    return {
        "hidden_size": heads * draw.choice([4, 8]), "num_hidden_layers": draw.randint(1, 2),
        "num_attention_heads": heads, "intermediate_size": draw.choice([12, 20]), "patch_size": draw.choice([2, 3]),
    }  # fmt: skip


def _square(draw: Random) -> Config:
    found = _picture(draw)
    return {**found, "image_size": SIDE * found["patch_size"]}


_MARKS: Config = {"image_token_id": IMAGE_TOKEN, "video_token_id": VIDEO_TOKEN, "vision_start_token_id": START_TOKEN}
_FAMILIES: Mapping[str, Callable[[Random], dict[str, Any]]] = {
    "llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "qwen3_moe": _qwen3_moe, "nemotron_h": _nemotron,
    "gemma3_text": _gemma, "clip_vision_model": _clip, "siglip_vision_model": _siglip,
    "siglip2_vision_model": _siglip2, "radio": _radio, "convnextv2": _convnext, "qwen2_5_vl_vision": _qwen2_5_tower,
    "qwen3_vl_vision": _qwen3_tower, "clip": _pair("clip"), "siglip": _pair("siglip"), "siglip2": _pair("siglip2"),
    "whisper": _whisper, "whisper with a head": _whisper, "parakeet_encoder": _parakeet,
    "parakeet_ctc": _parakeet_ctc, "llava": _llava, "qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl,
    "nemotron_h_omni": _omni, "nemotron_h_omni with sound": _hearing,
}  # fmt: skip
FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
"""All families of folders, by `model_type`, some with what they have or lack."""
