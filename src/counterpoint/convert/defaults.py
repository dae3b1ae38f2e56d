"""What transformers takes a key of config.json to be that is left out, by `model_type`; of towers, their files say it.

Only keys that are read here stand in the table; tests compare it with transformers' own classes. A model type without
an entry has no defaults.
"""

from collections.abc import Mapping
from typing import Any

_BLOCKS: Mapping[str, Any] = {
    "hidden_act": "silu", "num_key_value_heads": 32, "num_attention_heads": 32, "num_hidden_layers": 32,
    "hidden_size": 4096, "intermediate_size": 22016, "vocab_size": 151936, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
}  # fmt: skip
_BIASED: Mapping[str, Any] = {"attention_bias": False}
_VL_TEXT: Mapping[str, Any] = {
    **_BLOCKS, "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
}  # fmt: skip
_FILM: Mapping[str, Any] = {
    "num_heads": 16, "in_channels": 3, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
    "rope_theta": 10000.0,
}  # fmt: skip
_WITHOUT_HEADS: Mapping[str, Any] = {"head_dim": None}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        **_BLOCKS, **_BIASED, **_WITHOUT_HEADS, "mlp_bias": False, "vocab_size": 32000, "intermediate_size": 11008,
        "num_key_value_heads": None,
    },
    "qwen2": {**_BLOCKS, **_WITHOUT_HEADS},
    "qwen2_vl_text": {**_VL_TEXT, **_WITHOUT_HEADS},
    "qwen2_5_vl_text": {**_VL_TEXT, **_WITHOUT_HEADS},
    "qwen3": {**_BLOCKS, **_BIASED, "head_dim": 128},
    "qwen3_vl_text": {
        **_BLOCKS, **_BIASED, "head_dim": 128, "rope_theta": 500000.0,
    },
    "qwen3_moe": {
        **_BLOCKS, **_BIASED, **_WITHOUT_HEADS, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
        "num_key_value_heads": 4, "decoder_sparse_step": 1, "moe_intermediate_size": 768, "num_experts_per_tok": 8,
        "num_local_experts": 128, "norm_topk_prob": False, "mlp_only_layers": [],
    },
    "nemotron_h": {
        "vocab_size": 131072, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "attention_bias": False, "intermediate_size": 21504, "mlp_hidden_act": "relu2",
        "mlp_bias": False, "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64,
        "mamba_hidden_act": "silu", "n_groups": 8, "conv_kernel": 4, "time_step_min": 0.001, "use_conv_bias": True,
        "chunk_size": 128, "mamba_proj_bias": False, "n_routed_experts": 8, "n_shared_experts": 1,
        "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688, "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
        "num_nextn_predict_layers": 0, "use_bias": False, "layer_norm_epsilon": 1e-5,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    },
    "qwen2_5_vl_vision": {
        **_FILM, "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "patch_size": 14,
        "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "qwen3_vl_vision": {
        **_FILM, "depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 4304,
        "patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
    },
    "llava": {
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu", "multimodal_projector_bias": True,
    },
    "nemotron_h_omni": {"projector_hidden_size": 4096, "downsample_ratio": 0.5},
}  # fmt: skip

CLIP_OF_LLAVA: Mapping[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
"""Of the whole section, where it is left out."""

SOUND_OF_OMNI: Mapping[str, Any] = {"attention_bias": False, "scale_input": False}
