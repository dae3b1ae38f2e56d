"""A tiny config.json of every family, and our decoder of its sizes with values, in float64."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from counterpoint.convert.composite import LANGUAGE, composite_of
from counterpoint.families import facts_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.encoder import LayeredSection
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import Chain, Part, build_chain
from counterpoint.models.head import VocabularyHead
from counterpoint.models.seams import run
from counterpoint.models.segments import Segments
from counterpoint.plan.samples import NO_LABEL

Config = dict[str, Any]

_STEPS = 2**20

COMMON: Config = {
    "vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
BLOCKS: Config = {**COMMON, "num_hidden_layers": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5}
EXPERTS: Config = {
    "num_hidden_layers": 3, "head_dim": 6, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 10,
}  # fmt: skip
HYBRID: Config = {
    "model_type": "nemotron_h", **COMMON, "head_dim": 6, "mamba_num_heads": 6, "mamba_head_dim": 4, "n_groups": 2,
    "ssm_state_size": 5, "conv_kernel": 4, "chunk_size": 8, "n_routed_experts": 8, "num_experts_per_tok": 3,
    "moe_intermediate_size": 10, "moe_shared_expert_intermediate_size": 14, "routed_scaling_factor": 2.5,
}  # fmt: skip
GEMMA: Config = {
    "model_type": "gemma3_text", **COMMON, "num_hidden_layers": 2, "head_dim": 6, "rms_norm_eps": 1e-5,
    "query_pre_attn_scalar": 48, "pad_token_id": None, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
}  # fmt: skip
CONFIGS: dict[str, Config] = {
    "llama": {"model_type": "llama", **BLOCKS, "rope_theta": 500.0},
    "llama_tied": {"model_type": "llama", **BLOCKS, "tie_word_embeddings": True, "head_dim": 6},
    "llama_bias": {"model_type": "llama", **BLOCKS, "attention_bias": True, "mlp_bias": True},
    "llama_attention_bias": {"model_type": "llama", **BLOCKS, "attention_bias": True},
    "llama_mlp_bias": {"model_type": "llama", **BLOCKS, "mlp_bias": True},
    "qwen2": {"model_type": "qwen2", **BLOCKS},
    "qwen2_tied": {"model_type": "qwen2", **BLOCKS, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2_vl_text": {
        "model_type": "qwen2_vl_text", **BLOCKS, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [1, 2, 1]},
    },
    "qwen3": {"model_type": "qwen3", **BLOCKS, "head_dim": 6, "tie_word_embeddings": True},
    "qwen3_moe": {"model_type": "qwen3_moe", **BLOCKS, **EXPERTS, "norm_topk_prob": True},
    "qwen3_moe_bias": {"model_type": "qwen3_moe", **BLOCKS, **EXPERTS, "attention_bias": True},
    "qwen3_moe_mixed": {"model_type": "qwen3_moe", **BLOCKS, **EXPERTS, "mlp_only_layers": [1]},
    "nemotron_h": {**HYBRID, "hybrid_override_pattern": "M-M*-"},
    "nemotron_h_experts": {**HYBRID, "hybrid_override_pattern": "MEM*E"},
    "nemotron_h_unnormalized": {**HYBRID, "hybrid_override_pattern": "ME", "norm_topk_prob": False},
    "gemma3": {**GEMMA, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_untied": {
        **GEMMA, "num_hidden_layers": 3, "sliding_window": 3, "tie_word_embeddings": False,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 500.0}, "sliding_attention": {
            "rope_type": "linear", "factor": 2.0, "rope_theta": 50.0,
        }},
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
    "gemma3_in_one_window": {**GEMMA, "sliding_window": 100, "query_pre_attn_scalar": 6},
}  # fmt: skip
"""By name of the case."""


def decoder_of(config: Mapping[str, Any]) -> DecoderConfig:
    """The decoder that the content of a config.json describes; raises CheckpointError."""
    section: DecoderConfig = composite_of(config).modules[LANGUAGE].model.section
    return section


def alone(section: DecoderConfig) -> Model:
    """The decoder that nothing enters but documents, with as many words as it says."""
    assert isinstance(section.vocab, int), "a folder says how many words there are"
    return Model(section, Ends(vocab=section.vocab))


def our_model(section: DecoderConfig, tensors: Mapping[str, Tensor]) -> Chain:
    """Our decoder with exactly these parameters and buffers."""
    return our_module(alone(section), tensors)


def our_module(model: Model, tensors: Mapping[str, Tensor]) -> Chain:
    """Our model with exactly these parameters and buffers."""
    return with_tensors(parts_of(model), tensors)


def with_tensors(parts: Sequence[Part], tensors: Mapping[str, Tensor]) -> Chain:
    """A chain of these parts with exactly these parameters and buffers."""
    with torch.device("meta"):
        chain = build_chain(parts)
    chain.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, strict=True, assign=True)
    return chain.requires_grad_(True)


def headless(section: LayeredSection, tensors: Mapping[str, Tensor]) -> Chain:
    """Our encoder in front of its projector, with exactly these parameters and buffers."""
    return with_tensors(parts_of(Model(section, Ends(leaving=section.hidden)))[:-1], tensors)


def empty_tensors(model: Model) -> dict[str, Tensor]:
    """Every parameter and buffer of a model, without values."""
    with torch.device("meta"):
        return build_chain(parts_of(model)).state_dict()


def random_tensors(section: DecoderConfig, seed: int = 0) -> dict[str, Tensor]:
    """Values for every parameter and buffer, large enough that every term counts."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_like(tensor, generator) for name, tensor in empty_tensors(alone(section)).items()}


def random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers and vectors spread around 1/2; matrices, and stacks of them, normal of about the size that keeps rows.

    The vectors are of so few digits that one can be taken from them and added without rounding.
    """
    if tensor.ndim <= 1:
        values = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1
        return (values * _STEPS).round() / _STEPS
    values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return values / math.sqrt(tensor.shape[-1])


def text_batch(section: DecoderConfig, lengths: Sequence[int], padding: int = 0, seed: int = 0) -> TextBatch:
    """Documents of these lengths with random tokens; the last row of each has no label."""
    generator = torch.Generator().manual_seed(seed)
    model = alone(section)
    used, rows = sum(lengths), sum(lengths) + padding
    ids = torch.randint(0, model.ends.vocab, (rows,), generator=generator)
    labels = ids.roll(-1)
    ends = torch.tensor(lengths).cumsum(0) - 1
    labels[ends] = NO_LABEL
    ids[used:], labels[used:] = -1, NO_LABEL
    positions = torch.cat([torch.arange(n) for n in (*lengths, padding)])
    extents = torch.cat([torch.full((n,), n) for n in (*lengths, padding)])
    axes = facts_of(model).position_axes
    if axes > 1:
        # The first coordinate is the largest.
        positions = positions[:, None] // torch.arange(1, axes + 1)
    return TextBatch(
        ids, positions, labels, Segments.build(lengths, rows), float((labels != NO_LABEL).sum()),
        document_denominator=float(len(lengths)), extents=extents,
    )  # fmt: skip


def logits_of(chain: Chain, batch: TextBatch) -> Tensor:
    """Scores (rows, vocab) of a whole decoder."""
    rows: Tensor | None = None
    for _name, part in chain.parts():
        if isinstance(part, VocabularyHead):
            assert rows is not None, "a head reads rows"
            return part.logits(rows)
        rows = run(part, rows, batch).rows
    raise AssertionError("a decoder ends in a head")


def gradients_of(chain: Chain) -> dict[str, Tensor]:
    """Every parameter's gradient, by name."""
    found = {}
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        found[name] = parameter.grad
    return found
