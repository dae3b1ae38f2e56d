"""The config.json of a decoder that began with no folder: the family whose own reading of it is our section."""

from collections.abc import Callable, Mapping
from typing import Any

from counterpoint.convert.composite import LANGUAGE, composite_of
from counterpoint.convert.differences import differences
from counterpoint.errors import CheckpointError
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.kinds.family import Model
from counterpoint.section.problem import show
from counterpoint.section.section import Section

Keys = dict[str, Any]


def config_of(module: str, model: Model, positions: int) -> Mapping[str, Any]:
    """The config.json of the family that such a decoder is one of; `positions` are the rows of its longest document.

    Raises CheckpointError for a model that none of the families describes.
    """
    section = model.section
    if not isinstance(section, DecoderConfig):
        raise CheckpointError(
            f"modules.{module}: got a module that began with no folder, expected a decoder, or a folder whose other "
            "tensors can be carried over; name one with --base"
        )
    reasons = {}
    for family, describe in _FAMILIES.items():
        try:
            config = {"model_type": family, "architectures": [_CLASSES[family]], "vocab_size": model.ends.vocab}
            config |= {"max_position_embeddings": positions} | describe(section)
            whole = composite_of(config, f"the config.json of a {family}")
        except CheckpointError as error:
            reasons[family] = (1000, str(error))
            continue
        apart = [
            *differences(model, whole.modules[LANGUAGE].model, ()),
            *((key, other, one) for key, one, other in differences(whole.modules[LANGUAGE].model, model, ())),
        ]
        if not apart:
            return config
        key, got, expected = apart[0]
        reasons[family] = (len(apart), f"{key} is {show(got)}, a {family} has {show(expected)}")
    nearest = min(reasons, key=lambda family: reasons[family][0])
    raise CheckpointError(
        f"modules.{module}.model: got a decoder that is none of {', '.join(_FAMILIES)}, expected one of these "
        f"({reasons[nearest][1]}); change the key, or name a folder of the same model with --base"
    )


def _common(section: DecoderConfig) -> Keys:
    return {
        "hidden_size": section.hidden,
        "num_attention_heads": section.heads,
        "num_key_value_heads": section.num_kv_heads,
        "head_dim": section.head_size,
        "tie_word_embeddings": section.tied,
    }


def _blocks(section: DecoderConfig) -> Keys:
    inner = section.ffn if section.ffn is not None else section.moe.ffn if section.moe is not None else section.hidden
    return {
        **_common(section),
        "intermediate_size": inner,
        "num_hidden_layers": len(section.pattern) // 2,
        "hidden_act": "silu",
        "rms_norm_eps": section.norm_eps,
        **_rope(section.rope_theta, section.rope_scaling),
    }


def _rope(theta: float | None, scaling: Section | None) -> Keys:
    """The base of the angles and their scaling, whose keys have the same names on both sides but for one."""
    keys: Keys = {"rope_theta": theta}
    if scaling is not None:
        stated = {_OTHER_NAMES.get(key, key): value for key, value in scaling.model_dump().items() if value is not None}
        is_linear = _ORIGINAL not in stated
        keys["rope_scaling"] = {"rope_type": "linear" if is_linear else "llama3", **stated}
        if stated.get("rope_type") == "dynamic":
            keys["max_position_embeddings"] = keys["rope_scaling"].pop(_ORIGINAL)
    return keys


_ORIGINAL = "original_max_position_embeddings"
_OTHER_NAMES = {
    "kind": "rope_type", "original_positions": _ORIGINAL, "short_factors": "short_factor",
    "long_factors": "long_factor",
}  # fmt: skip


def _llama(section: DecoderConfig) -> Keys:
    return {**_qwen3(section), "mlp_bias": section.bias_of("mlp")}


def _qwen3(section: DecoderConfig) -> Keys:
    return {**_blocks(section), "attention_bias": section.bias_of("attention")}


def _qwen3_moe(section: DecoderConfig) -> Keys:
    moe = section.moe
    if moe is None:
        return _qwen3(section)
    dense = [block for block, letter in enumerate(section.pattern[1::2]) if letter == "-"]
    return {
        **_qwen3(section), "num_experts": moe.experts, "num_experts_per_tok": moe.top_k,
        "moe_intermediate_size": moe.ffn, "norm_topk_prob": moe.normalize, "decoder_sparse_step": 1,
        "mlp_only_layers": dense,
    }  # fmt: skip


def _nemotron_h(section: DecoderConfig) -> Keys:
    keys = {
        **_common(section), "hybrid_override_pattern": section.pattern, "layer_norm_epsilon": section.norm_eps,
        "num_hidden_layers": len(section.pattern),
    }  # fmt: skip
    if section.ffn is not None:
        keys["intermediate_size"] = section.ffn
    if section.mamba is not None:
        mamba = section.mamba
        keys |= {
            "mamba_num_heads": mamba.heads, "mamba_head_dim": mamba.head_dim, "n_groups": mamba.groups,
            "ssm_state_size": mamba.state, "conv_kernel": mamba.conv, "chunk_size": mamba.chunk,
            "time_step_min": 0.0 if mamba.dt_min is None else mamba.dt_min,
        }  # fmt: skip
    if section.moe is not None:
        moe = section.moe
        keys |= {
            "n_routed_experts": moe.experts, "num_experts_per_tok": moe.top_k, "moe_intermediate_size": moe.ffn,
            "moe_shared_expert_intermediate_size": moe.shared_ffn, "norm_topk_prob": moe.normalize,
            "routed_scaling_factor": moe.scale,
        }  # fmt: skip
    return keys


def _gemma3(section: DecoderConfig) -> Keys:
    letters = section.pattern[::2]
    local = section.layers.get("W")
    keys = {
        **_common(section), "intermediate_size": section.ffn, "num_hidden_layers": len(letters),
        "rms_norm_eps": section.norm_eps, "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": ["sliding_attention" if letter == "W" else "full_attention" for letter in letters],
        "query_pre_attn_scalar": section.head_size if section.score_scale is None else section.score_scale**-2,
        "rope_theta": section.rope_theta,
    }  # fmt: skip
    if local is not None:
        windows = local.model_dump()
        keys |= {"sliding_window": windows["window"], "rope_local_base_freq": windows["rope_theta"]}
    if section.rope_scaling is not None:
        keys["rope_scaling"] = {"rope_type": "linear", "factor": section.rope_scaling.model_dump()["factor"]}
    scalar = keys["query_pre_attn_scalar"]
    return {**keys, "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar}


_FAMILIES: Mapping[str, Callable[[DecoderConfig], Keys]] = {
    "llama": _llama,
    "qwen2": _blocks,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "nemotron_h": _nemotron_h,
    "gemma3_text": _gemma3,
}
_CLASSES = {
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM", "nemotron_h": "NemotronHForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
}  # fmt: skip
