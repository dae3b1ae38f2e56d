"""Nemotron-H: layers of Mamba-2, attention, MLP and experts in any order, one layer of ours each."""

from collections.abc import Callable, Iterator, Mapping
from math import inf

from counterpoint.convert.blocks import kv_heads_of
from counterpoint.convert.decoder import Decoder
from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Joined, Link
from counterpoint.convert.tables import (
    ATTENTION,
    EXPERTS,
    MLP,
    ROUTER,
    ROUTER_BIAS,
    SHARED_EXPERT,
    STACKED_EXPERTS,
    Table,
    ends,
    experts,
    renamed,
)
from counterpoint.convert.without_effect import OF_TEXT
from counterpoint.errors import CheckpointError
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.layers.moe.spec import MoeConfig

BIAS_RATE = 1e-3
"""Of the expert bias, which config.json does not state (Wang et al., 2024, arXiv:2408.15664)."""

_KINDS = {
    "linear_attention": "M", "mamba": "M", "full_attention": "*", "attention": "*", "mlp": "-", "moe": "E",
}  # fmt: skip
_MAMBA: Table = {
    "mamba.dynamics.a_log": "A_log",
    "mamba.dynamics.dt_bias": "dt_bias",
    "mamba.dynamics.d": "D",
    "mamba.norm.weight": "norm.weight",
    "mamba.o.weight": "out_proj.weight",
}


def hybrid_section(fields: Fields) -> DecoderConfig:
    """What a config.json describes; raises CheckpointError."""
    _demand_supported(fields)
    pattern, heads = _pattern(fields), fields.integer("num_attention_heads")
    sections = {"M": ("mamba", _mamba(fields)), "E": ("moe", _moe(fields))}
    return described(
        DecoderConfig,
        fields,
        pattern=pattern,
        hidden=fields.integer("hidden_size"),
        heads=heads,
        kv_heads=kv_heads_of(fields, heads),
        head_dim=fields.integer("head_dim"),
        ffn=fields.integer("intermediate_size"),
        vocab=fields.integer("vocab_size"),
        # transformers ties nothing in this family, whatever the key says.
        tied=False,
        activation="relu2",
        rope_theta=None,
        norm_eps=fields.number("layer_norm_epsilon"),
        **{key: section for letter, (key, section) in sections.items() if letter in set(pattern)},
    )


def hybrid_links(section: DecoderConfig) -> Iterator[Link]:
    """The links of a Nemotron-H."""
    yield from ends(section, "backbone.embeddings.weight", "backbone.norm_f.weight")
    for layer, letter in enumerate(section.pattern):
        ours, theirs = f"layers.{layer}", f"backbone.layers.{layer}"
        yield from renamed(ours, theirs, {"norm.weight": "norm.weight"})
        yield from _LAYERS[letter](ours, f"{theirs}.mixer", section)


def hybrid_otherwise(section: DecoderConfig) -> Iterator[Link]:
    """The links of experts that are stacked already."""
    for layer, letter in enumerate(section.pattern):
        if letter == "E":
            yield from renamed(f"layers.{layer}", f"backbone.layers.{layer}.mixer.experts", STACKED_EXPERTS)


def _moe_links(ours: str, theirs: str, decoder: DecoderConfig) -> Iterator[Link]:
    assert decoder.moe is not None, "a letter comes with the section that it needs"
    yield from renamed(ours, theirs, ROUTER, ROUTER_BIAS, SHARED_EXPERT)
    yield from experts(ours, theirs, EXPERTS, decoder.moe.experts)


def _mamba_links(ours: str, theirs: str, decoder: DecoderConfig) -> Iterator[Link]:
    section = decoder.mamba
    assert section is not None, "a letter comes with the section that it needs"
    bc = section.groups * section.state
    convolved = (section.inner, bc, bc)
    yield from renamed(ours, theirs, _MAMBA)
    yield Joined(
        tuple(f"{ours}.mamba.{x}.weight" for x in ("z", "x", "b", "c", "dt")),
        (f"{theirs}.in_proj.weight",),
        (section.inner, *convolved, section.heads),
    )
    names = [f"{ours}.mamba.{x}_conv" for x in "xbc"]
    weights, biases = tuple(f"{name}.weight" for name in names), tuple(f"{name}.bias" for name in names)
    yield Joined(weights, (f"{theirs}.conv1d.weight",), convolved, depthwise=True)
    yield Joined(biases, (f"{theirs}.conv1d.bias",), convolved)


_LAYERS: Mapping[str, Callable[[str, str, DecoderConfig], Iterator[Link]]] = {
    "*": lambda ours, theirs, _decoder: renamed(ours, theirs, ATTENTION),
    "-": lambda ours, theirs, _decoder: renamed(ours, theirs, MLP),
    "M": _mamba_links,
    "E": _moe_links,
}
"""The links of a layer by its letter, of the prefixes on both sides and the decoder."""


def _pattern(fields: Fields) -> str:
    """The kinds of layers, as a list of names or as the letters that are ours, too."""
    is_named = fields.has("layers_block_type") or not fields.has("hybrid_override_pattern")
    if is_named:
        # Where the layers are named, the letters have no effect.
        fields.has("hybrid_override_pattern")
        key, kinds, known = "layers_block_type", fields.texts("layers_block_type"), _KINDS
    else:
        letters = {letter: letter for letter in _KINDS.values()}
        key, kinds, known = "hybrid_override_pattern", tuple(fields.text("hybrid_override_pattern")), letters
    unknown = sorted(set(kinds) - known.keys())
    if unknown or not kinds:
        what = f"layers of the kinds {', '.join(map(repr, unknown))}" if unknown else "no layers"
        raise CheckpointError(
            f"{fields.where} has {what} in {key}, but only {', '.join(known)} can be converted: choose another model."
        )
    return "".join(known[kind] for kind in kinds)


def _mamba(fields: Fields) -> MambaConfig:
    heads, groups, least = fields.integer("mamba_num_heads"), fields.integer("n_groups"), fields.number("time_step_min")
    if heads % groups:
        raise fields.unlike("n_groups", groups, f"a divisor of mamba_num_heads, {heads},")
    return described(
        MambaConfig,
        fields,
        heads=heads,
        head_dim=fields.integer("mamba_head_dim"),
        groups=groups,
        state=fields.integer("ssm_state_size"),
        conv=fields.integer("conv_kernel"),
        chunk=fields.integer("chunk_size"),
        # A step is positive, so a lower bound of zero changes nothing.
        dt_min=least if least > 0 else None,
    )


def _moe(fields: Fields) -> MoeConfig:
    return described(
        MoeConfig,
        fields,
        experts=fields.integer("n_routed_experts"),
        top_k=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("moe_intermediate_size"),
        shared_ffn=fields.integer("moe_shared_expert_intermediate_size"),
        router="sigmoid",
        normalize=fields.flag("norm_topk_prob"),
        scale=fields.number("routed_scaling_factor"),
        bias_rate=BIAS_RATE,
    )


def _demand_supported(fields: Fields) -> None:
    fields.demand("mlp_hidden_act", "relu2")
    fields.demand("mamba_hidden_act", "silu")
    fields.demand("use_conv_bias", True)
    # transformers reads one of the two; published files state both.
    fields.demand("rms_norm_eps", fields.number("layer_norm_epsilon"))
    for key in ("attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias"):
        fields.demand(key, False)
    # Group-limited routing, latent experts and a second shared expert are unknown here.
    for key in ("n_group", "topk_group", "n_shared_experts"):
        fields.demand(key, 1)
    fields.demand("moe_latent_size")
    fields.demand("sliding_window")
    # transformers writes it, in its own spelling, and clamps with time_step_min alone; other programs clamp with it.
    fields.demand("time_step_limit", [0.0, inf], [0.0, {"__float__": "Infinity"}], [0.0, 1e30])


_WITHOUT_EFFECT = frozenset({
    # Attention here has no positions, and all norms have one epsilon.
    "rope_theta", "partial_rotary_factor", "norm_eps",
    "use_mamba_kernels", "expand", "time_step_max", "time_step_floor", "mamba_ssm_cache_dtype",
    "moe_shared_expert_overlap", "residual_in_fp32", "rescale_prenorm_residual", "num_hidden_layers",
    # Tensors of these layers are accounted for by their names.
    "num_nextn_predict_layers", "tie_word_embeddings", "mtp_layers_block_type", "mtp_hybrid_override_pattern",
})  # fmt: skip

NEMOTRON_H = Decoder(
    section=hybrid_section,
    links=hybrid_links,
    otherwise=hybrid_otherwise,
    without_effect=OF_TEXT | _WITHOUT_EFFECT,
    base="backbone.",
    parts=("embeddings.", "layers.", "norm_f."),
    # Depths of multi-token prediction, which transformers does not read either.
    unused=("mtp.*",),
)
