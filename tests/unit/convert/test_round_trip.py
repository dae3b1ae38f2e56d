"""Checkpoints to our tensors and back, without transformers: exact, strict, and saying what is wrong."""

import pytest
import torch
from torch import Tensor

from counterpoint.errors import CheckpointError
from counterpoint.families.decoder.spec import DecoderConfig
from tests.unit.judge.converted import from_ours, to_ours
from tests.unit.judge.models import CONFIGS, HYBRID, Config, decoder_of, our_model, random_tensors


def case(name: str) -> tuple[str, DecoderConfig, dict[str, Tensor]]:
    """Family, section and our tensors."""
    config = CONFIGS[name]
    section = decoder_of(config)
    return config["model_type"], section, random_tensors(section)


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_is_exact(name: str) -> None:
    family, section, ours = case(name)
    back = to_ours(family, from_ours(family, ours, section), section)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in ours.items())
    our_model(section, back)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_value_lies_in_exactly_one_place(name: str) -> None:
    """Gradients go to where values do, and are what they were."""
    family, section, ours = case(name)
    numbered, first = {}, 0
    for key, tensor in from_ours(family, ours, section).items():
        numbered[key] = torch.arange(first, first + tensor.numel()).view_as(tensor)
        first += tensor.numel()
    found = to_ours(family, numbered, section, are_gradients=True)
    assert torch.equal(torch.cat([tensor.flatten() for tensor in found.values()]).sort().values, torch.arange(first))


def test_fused_tensors_are_in_the_order_of_the_paper() -> None:
    family, section, ours = case("nemotron_h_experts")
    theirs = from_ours(family, ours, section)
    mixer = "backbone.layers.0.mixer"
    inner = 24
    assert torch.equal(theirs[f"{mixer}.in_proj.weight"][:inner], ours["layers.0.mamba.z.weight"])
    assert torch.equal(theirs[f"{mixer}.in_proj.weight"][-6:], ours["layers.0.mamba.dt.weight"])
    assert theirs[f"{mixer}.conv1d.weight"].shape == (inner + 2 * 2 * 5, 1, 4)
    assert torch.equal(theirs[f"{mixer}.conv1d.weight"][:inner, 0], ours["layers.0.mamba.x_conv.weight"])
    expert = theirs["backbone.layers.1.mixer.experts.7.up_proj.weight"]
    assert torch.equal(expert, ours["layers.1.moe.experts.up"][7])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_missing_and_an_unknown_name_are_named(name: str) -> None:
    family, section, ours = case(name)
    theirs = from_ours(family, ours, section)
    for lost in theirs:
        with pytest.raises(CheckpointError, match=f"lacks {lost}: "):
            to_ours(family, {key: tensor for key, tensor in theirs.items() if key != lost}, section)
    with pytest.raises(CheckpointError, match=r"unknown model\.more: "):
        to_ours(family, {**theirs, "model.more": torch.zeros(1)}, section)
    with pytest.raises(CheckpointError, match=r"The model lacks norm\.weight: "):
        from_ours(family, {key: tensor for key, tensor in ours.items() if key != "norm.weight"}, section)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_shape_is_named(name: str) -> None:
    family, section, ours = case(name)
    theirs = from_ours(family, ours, section)
    for wrong, tensor in theirs.items():
        with pytest.raises(CheckpointError, match=f"{wrong} of shape .* expected"):
            to_ours(family, {**theirs, wrong: torch.cat([tensor, tensor[:1]])}, section)


def test_many_wrong_names_are_counted() -> None:
    family, section, _ours = case("llama")
    with pytest.raises(CheckpointError, match=r"and 12 more: check that"):
        to_ours(family, {}, section.model_copy(update={"tied": True}))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"qk_norm": True}, "has no place for layers.0.attention.k_norm.weight"),
        ("llama", {"activation": "relu2"}, "needs layers.1.mlp.gate.weight"),
        ("qwen3", {"qk_norm": False}, "needs layers.0.attention.k_norm.weight"),
        ("nemotron_h", {"activation": "swiglu"}, "has no place for layers.1.mlp.gate.weight"),
    ],
)
def test_sizes_of_another_family_are_refused(name: str, change: dict[str, object], message: str) -> None:
    family, section, _ours = case(name)
    with pytest.raises(CheckpointError, match=message):
        to_ours(family, {}, section.model_copy(update=change))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"model_type": "mamba"}, "'mamba' is none of llama, "),
        ("llama", {"hidden_size": None}, "says hidden_size: None, but only a whole number from 1 can be converted"),
        ("llama", {"hidden_size": 10**20}, f"but only a whole number from 1 to {10**20 - 1} can be converted"),
        ("llama", {"num_hidden_layers": 5_001}, "says num_hidden_layers: 5001, but only a whole number from 1 to 5000"),
        ("qwen2", {"num_attention_heads": 32}, "says num_attention_heads: 32, but only a number up to the width, 16,"),
        ("llama", {"hidden_size": "16"}, "says hidden_size: '16', but only a whole number"),
        ("llama", {"rms_norm_eps": "tiny"}, "only a number"),
        ("llama", {"tie_word_embeddings": 1}, "only true or false"),
        ("llama", {"model_type": 3}, "only a string"),
        ("llama", {"hidden_act": "gelu"}, "says hidden_act: 'gelu', but only 'silu'"),
        ("qwen2", {"attention_bias": True}, "says attention_bias: True, but only False"),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling has no factor: "),
        ("llama", {"head_dim": 5}, "says head_dim: 5, but only an even width"),
        ("llama", {"rope_scaling": 2}, "only a section"),
        ("llama", {"rope_parameters": {"rope_type": "ntk"}}, "rope_parameters says rope_type: 'ntk'"),
        (
            "llama",
            {"rope_parameters": {"mrope_section": [1, 2]}},
            r"mrope_section: \[1, 2\], of which nothing is known",
        ),
        ("qwen2_vl_text", {"rope_parameters": {"mrope_section": [1, 1, 1]}}, "half the width of a head, 8,"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        (
            "gemma3",
            {"layer_types": ["chunked_attention"] * 2},
            "only sliding_attention or full_attention for each of 2",
        ),
        (
            "gemma3",
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            "only what rope_parameters says, or null, can be",
        ),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "says attn_logit_softcapping: 50.0"),
        ("qwen3", {"mlp_bias": True}, "says mlp_bias: True, but only False"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "says decoder_sparse_step: 0, but only a whole number from 1"),
        ("qwen3_moe", {"mlp_only_layers": [0.5]}, "only a list of whole numbers"),
        ("nemotron_h", {"hybrid_override_pattern": 3}, "says hybrid_override_pattern: 3, but only a string"),
        (
            "nemotron_h",
            {"hybrid_override_pattern": "M|*"},
            r"has layers of the kinds '\|' in hybrid_override_pattern, but only M, ",
        ),
        ("nemotron_h", {"hybrid_override_pattern": ""}, "has no layers in hybrid_override_pattern, but only M, "),
        (
            "nemotron_h",
            {"layers_block_type": ["moe", "rwkv"]},
            "has layers of the kinds 'rwkv' in layers_block_type, but only linear_attention, ",
        ),
        ("nemotron_h", {"moe_latent_size": 8}, "says moe_latent_size: 8, but only null can be converted"),
        ("nemotron_h", {"time_step_limit": [0.01, 0.1]}, r"says time_step_limit: \[0.01, 0.1\], but only"),
        ("nemotron_h", {"mamba_dt_min": 0.1}, "says mamba_dt_min: 0.1, of which nothing is known"),
        ("nemotron_h", {"n_groups": 4}, "says n_groups: 4, but only a divisor of mamba_num_heads, 6, can"),
        ("qwen2", {"num_key_value_heads": 3}, "says num_key_value_heads: 3, but only a divisor of"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "'full_attention' for every layer"),
        ("qwen2_vl_text", {"head_dim": 6}, "says head_dim: 6, but only hidden_size / num_attention_heads, 8,"),
        ("nemotron_h", {"n_group": 2}, "says n_group: 2, but only 1"),
        ("nemotron_h", {"attention_bias": True}, "says attention_bias: True, but only False"),
        ("nemotron_h", {"use_conv_bias": False}, "use_conv_bias"),
    ],
)
def test_what_cannot_be_converted_is_refused(name: str, change: Config, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        decoder_of({**CONFIGS[name], **change})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_number_that_no_section_takes_is_refused_as_the_files(name: str) -> None:
    epsilon = "layer_norm_epsilon" if CONFIGS[name]["model_type"] == "nemotron_h" else "rms_norm_eps"
    said = r"^config.json describes a model with norm_eps: -1.0, but only more than 0 can be converted: choose"
    with pytest.raises(CheckpointError, match=said):
        decoder_of({**CONFIGS[name], epsilon: -1.0})


def test_old_and_new_spellings_say_the_same() -> None:
    config = CONFIGS["llama"]
    new = {**config, "rope_theta": None, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}
    assert decoder_of(new) == decoder_of(config)
    moe = CONFIGS["qwen3_moe"]
    assert decoder_of({**moe, "num_experts": None, "num_local_experts": 6}) == decoder_of(moe)
    kinds = ["linear_attention", "moe", "mamba", "full_attention", "mlp", "attention"]
    pattern = decoder_of({**HYBRID, "layers_block_type": kinds}).pattern
    assert pattern == "MEM*-*"


def test_sizes_are_read_as_they_are_meant() -> None:
    mixed = decoder_of(CONFIGS["qwen3_moe_mixed"])
    assert mixed.pattern == "*E*-*E"
    assert decoder_of({**CONFIGS["qwen3_moe"], "decoder_sparse_step": 2}).pattern == "*-*E*-"
    assert mixed.moe is not None
    assert (mixed.moe.router, mixed.moe.normalize, mixed.moe.top_k) == ("softmax", False, 2)
    hybrid = decoder_of(CONFIGS["nemotron_h_experts"])
    assert hybrid.rope_theta is None
    assert hybrid.moe is not None
    assert (hybrid.moe.router, hybrid.moe.scale, hybrid.moe.shared_ffn) == ("sigmoid", 2.5, 14)
