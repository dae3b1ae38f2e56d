"""A tiny config.json of every kind of rotary positions."""

from tests.unit.judge.models import BLOCKS, Config

ORIGINAL = 16
HEADS: Config = {**BLOCKS, "head_dim": 12, "max_position_embeddings": ORIGINAL}
YARN: Config = {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0}
FACTORS: Config = {
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 2.0, 3.5, 5.0, 7.0, 9.0],
}  # fmt: skip
VL: Config = {"model_type": "qwen2_vl_text", **BLOCKS, "num_attention_heads": 2, "num_key_value_heads": 1}
ROPES: dict[str, Config] = {
    "linear": {"model_type": "llama", **HEADS, "rope_parameters": {"rope_type": "linear", "factor": 3.0}},
    "linear as before": {"model_type": "qwen2", **HEADS, "rope_scaling": {"type": "linear", "factor": 3.0}},
    "dynamic": {"model_type": "llama", **HEADS, "rope_parameters": {
        "rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0, "original_max_position_embeddings": 5,
    }},
    "dynamic as before": {
        "model_type": "qwen3", **HEADS, "rope_scaling": {"type": "dynamic", "factor": 8.0}, "rope_theta": 500.0,
    },
    "yarn": {"model_type": "llama", **HEADS, "rope_parameters": YARN},
    "yarn as before": {
        "model_type": "qwen2", **HEADS, "max_position_embeddings": 64, "rope_theta": 50.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    },
    "yarn with every key": {"model_type": "qwen3", **HEADS, "rope_parameters": {
        **YARN, "beta_fast": 3, "beta_slow": 0.5, "truncate": False, "attention_factor": 1.7,
        "original_max_position_embeddings": 20,
    }},
    "yarn with two scales": {"model_type": "llama", **HEADS, "rope_parameters": {
        **YARN, "mscale": 0.7, "mscale_all_dim": 0.3, "beta_fast": 4, "beta_slow": 0.3,
    }},
    "yarn with one scale": {"model_type": "llama", **HEADS, "rope_parameters": {**YARN, "mscale": 0.7}},
    "yarn between lengths": {
        "model_type": "llama", **HEADS, "max_position_embeddings": 48, "original_max_position_embeddings": ORIGINAL,
        "rope_parameters": {**YARN, "factor": None, "original_max_position_embeddings": 7},
    },
    "yarn of three axes": {**VL, "max_position_embeddings": ORIGINAL, "rope_parameters": {
        **YARN, "mrope_section": [1, 2, 1], "beta_fast": 3, "beta_slow": 0.5,
    }},
    "dynamic of three axes": {**VL, "max_position_embeddings": ORIGINAL, "rope_parameters": {
        "rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0, "mrope_section": [1, 2, 1],
    }},
    "llama3": {"model_type": "llama", **HEADS, "rope_parameters": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500.0,
        "original_max_position_embeddings": 20,
    }},
    "longrope": {"model_type": "llama", **HEADS, "max_position_embeddings": 64, "rope_parameters": {
        "rope_type": "longrope", **FACTORS, "rope_theta": 50.0, "original_max_position_embeddings": ORIGINAL,
    }},
    "longrope as before": {
        "model_type": "qwen3", **HEADS, "original_max_position_embeddings": ORIGINAL, "max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", **FACTORS, "factor": 3.0},
    },
    "longrope with a factor of attention": {"model_type": "llama", **HEADS, "rope_parameters": {
        "rope_type": "longrope", **FACTORS, "attention_factor": 0.7,
    }},
}  # fmt: skip
"""By name of the case; 16 positions are the original ones of most."""
