"""transformers' defaults for keys that a config.json leaves out, by `model_type`; those of towers and decoders are in
their own files.

Only keys that are read here stand in the table; tests compare it with transformers' own classes. A model type without
an entry has no defaults.
"""

from collections.abc import Mapping
from typing import Any

_FILM: Mapping[str, Any] = {
    "num_heads": 16, "in_channels": 3, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
    "rope_theta": 10000.0,
}  # fmt: skip

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
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
