"""Gemma 3: blocks of attention and an MLP, each followed by a norm, where most attention layers see windows
(arXiv:2503.19786)."""

from collections.abc import Iterator
from math import sqrt
from typing import Any

from counterpoint.convert.blocks import INV_FREQ, MOST_BLOCKS, kv_heads_of
from counterpoint.convert.decoder import Decoder
from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link, PlusOne, Same
from counterpoint.convert.rope import demand_whole_heads, scaling_of
from counterpoint.convert.tables import ATTENTION, GATED_MLP, renamed
from counterpoint.convert.without_effect import OF_TEXT
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.layers.attention.spec import AttentionConfig

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_LETTERS = {_LOCAL: "W", _GLOBAL: "*"}
"""Layers that see windows have a letter of their own, all others the decoder's keys."""

_THETA = {_LOCAL: "rope_local_base_freq", _GLOBAL: "rope_theta"}
"""The key of the base of the angles before transformers 5."""

_EVERY = 6
"""Of so many blocks one is global, where none is named."""

_NORMS = (
    ("input_layernorm", "post_attention_layernorm"),
    ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)
"""Before and after attention, and before and after the MLP."""


def gemma_section(fields: Fields) -> DecoderConfig:
    """What a config.json describes; raises CheckpointError."""
    _demand_supported(fields)
    kinds, hidden = _kinds(fields), fields.integer("hidden_size")
    attention = _attention(fields)
    rope, local = _rope(fields, _LOCAL), dict[str, AttentionConfig]()
    if _LOCAL in kinds:
        window = fields.integer("sliding_window")
        local[_LETTERS[_LOCAL]] = described(AttentionConfig, fields, window=window, **attention, **rope)
    return described(
        DecoderConfig,
        fields,
        pattern="".join(f"{_LETTERS[kind]}-" for kind in kinds),
        hidden=hidden,
        ffn=fields.integer("intermediate_size"),
        vocab=fields.integer("vocab_size"),
        tied=fields.flag("tie_word_embeddings"),
        embedding_scale=sqrt(hidden),
        activation="geglu_tanh",
        layers=local,
        **attention,
        **_rope(fields, _GLOBAL),
    )


def gemma_links(section: DecoderConfig) -> Iterator[Link]:
    """The links of a Gemma 3, which stores each norm weight minus one."""
    yield Same(("embed.weight",), ("model.embed_tokens.weight",))
    yield PlusOne(("norm.weight",), ("model.norm.weight",))
    if not section.tied:
        yield Same(("head.weight",), ("lm_head.weight",))
    for layer in range(section.num_layers):
        ours, theirs = f"layers.{layer}", f"model.layers.{layer // 2}"
        for norm, name in zip(("norm", "post_norm"), _NORMS[layer % 2], strict=True):
            yield PlusOne((f"{ours}.{norm}.weight",), (f"{theirs}.{name}.weight",))
        if layer % 2:
            yield from renamed(ours, f"{theirs}.mlp", GATED_MLP)
            continue
        yield from renamed(ours, f"{theirs}.self_attn", ATTENTION)
        for name in ("q_norm", "k_norm"):
            yield PlusOne((f"{ours}.attention.{name}.weight",), (f"{theirs}.self_attn.{name}.weight",))


def _demand_supported(fields: Fields) -> None:
    fields.demand("hidden_activation", "gelu_pytorch_tanh")
    fields.demand("attention_bias", False)
    fields.demand("use_bidirectional_attention", False)
    fields.demand("attn_logit_softcapping")
    fields.demand("final_logit_softcapping")
    # Where no layer sees a window its size says nothing.
    fields.has("sliding_window")


def _attention(fields: Fields) -> dict[str, Any]:
    """What local and global layers have in common."""
    heads, head_dim, width = (fields.integer(f) for f in ("num_attention_heads", "head_dim", "query_pre_attn_scalar"))
    if head_dim % 2:
        raise fields.unlike("head_dim", head_dim, "an even width, of pairs that turn,")
    return {
        "heads": heads,
        "kv_heads": kv_heads_of(fields, heads),
        "head_dim": head_dim,
        "qk_norm": True,
        "score_scale": width**-0.5,
        "norm_eps": fields.number("rms_norm_eps"),
        "post_norm": True,
    }


def _kinds(fields: Fields) -> tuple[str, ...]:
    """What each block's attention is."""
    blocks, every = (
        fields.integer("num_hidden_layers", most=MOST_BLOCKS),
        fields.optional("sliding_window_pattern", _EVERY),
    )
    if not fields.has("layer_types"):
        return tuple(_LOCAL if (block + 1) % every else _GLOBAL for block in range(blocks))
    kinds = fields.texts("layer_types")
    if set(kinds) - _LETTERS.keys() or len(kinds) != blocks:
        raise fields.unlike("layer_types", list(kinds), f"{' or '.join(_LETTERS)} for each of {blocks} layers")
    return kinds


def _rope(fields: Fields, kind: str) -> dict[str, Any]:
    """The rotary positions of one kind of layer, from `rope_parameters` or the keys of older files."""
    section, older = fields.section("rope_parameters").section(kind), fields.section("rope_scaling")
    if older.values and section.values:
        # What older versions read may stand beside it.
        if kind == _GLOBAL and any(section.values.get(key) != value for key, value in older.values.items()):
            raise fields.unlike("rope_scaling", dict(older.values), "what rope_parameters says, or null,")
        older.pass_over(older.values)
    elif older.values:
        # It applies to the global layers alone.
        section = older if kind == _GLOBAL else section
    theta = fields.number(_THETA[kind])
    if section.has("rope_theta"):
        theta = section.number("rope_theta")
    for key in ("rope_type", "type"):
        # transformers reads other kinds of one layer in part from keys of all layers.
        section.demand(key, "default", "linear")
    demand_whole_heads(section)
    return {"rope_theta": theta, "rope_scaling": scaling_of(section, fields, fields.integer("head_dim") // 2)}


GEMMA3 = Decoder(
    section=gemma_section,
    links=gemma_links,
    unused=(INV_FREQ,),
    without_effect=OF_TEXT | {"cache_implementation", "_sliding_window_pattern"},
)
