"""Llama, Qwen2, Qwen3 and Qwen3-MoE: blocks of attention and an MLP, or experts, that are two layers of ours each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

from counterpoint.convert.decoder import Decoder
from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Halves, Link, Same
from counterpoint.convert.rope import Rope
from counterpoint.convert.tables import (
    ATTENTION,
    GATED_EXPERTS,
    GATED_MLP,
    GATED_MLP_BIAS,
    HEAD_NORMS,
    OUTPUT_BIAS,
    QKV_BIAS,
    ROUTER,
    Table,
    ends,
    experts,
    renamed,
)
from counterpoint.convert.without_effect import OF_TEXT
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.layers.moe.spec import MoeConfig

MOST_BLOCKS = 5_000
"""Each is two layers of ours, of which a decoder takes 10,000."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What sets a family of such models apart.

    `attention_bias` and `mlp_bias` are whether config.json says if all linears of attention, or of MLPs, have biases,
    `qkv_bias` whether those of queries, keys and values always have, and `experts` whether blocks may have experts.
    Heads of families with `own_head_dim` may be wider than hidden / heads. Positions of those with `axes` have a time,
    a height and a width, with these numbers of pairs where config.json gives none; if `interleaved`, the three
    alternate.
    """

    attention_bias: bool = False
    mlp_bias: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: bool = False
    own_head_dim: bool = True
    axes: tuple[int, int, int] | None = None
    interleaved: bool = False

    def section(self, fields: Fields) -> DecoderConfig:
        """The section that a config.json describes; raises CheckpointError."""
        _demand_supported(fields)
        hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
        blocks = fields.integer("num_hidden_layers", most=MOST_BLOCKS)
        head_dim = fields.optional("head_dim", hidden // heads)
        if not head_dim:
            raise fields.unlike("num_attention_heads", heads, f"a number up to the width, {hidden},")
        if not self.own_head_dim and head_dim != hidden // heads:
            raise fields.unlike("head_dim", head_dim, f"hidden_size / num_attention_heads, {hidden // heads},")
        if head_dim % 2:
            raise fields.unlike("head_dim", head_dim, "an even width, of pairs that turn,")
        rope = Rope(fields, head_dim, self.axes, interleaved=self.interleaved)
        moe = _moe(fields) if self.experts else None
        pattern = _moe_pattern(fields, blocks) if self.experts else "*-" * blocks
        return described(
            DecoderConfig,
            fields,
            pattern=pattern,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads_of(fields, heads),
            head_dim=head_dim,
            ffn=fields.integer("intermediate_size"),
            vocab=fields.integer("vocab_size"),
            tied=is_tied(fields),
            rope_theta=rope.theta,
            rope_sections=rope.sections,
            rope_interleaved=rope.interleaved,
            rope_scaling=rope.scaling,
            qk_norm=self.qk_norm,
            norm_eps=fields.number("rms_norm_eps"),
            attention_bias=_flag(fields, "attention_bias", is_read=self.attention_bias),
            mlp_bias=_flag(fields, "mlp_bias", is_read=self.mlp_bias),
            qkv_bias=self.qkv_bias,
            moe=moe if "E" in pattern else None,
        )

    def links(self, section: DecoderConfig) -> Iterator[Link]:
        """The links of a model of this family."""
        yield from ends(section, "model.embed_tokens.weight", "model.norm.weight")
        for layer, letter in enumerate(section.pattern):
            ours, theirs = f"layers.{layer}", f"model.layers.{layer // 2}"
            norm = "post_attention_layernorm" if layer % 2 else "input_layernorm"
            yield from renamed(ours, theirs, {"norm.weight": f"{norm}.weight"})
            yield from _LAYERS[letter](self, ours, theirs, section)

    def otherwise(self, section: DecoderConfig) -> Iterator[Link]:
        """The links of experts that are stacked already, gates before what they gate."""
        for layer, letter in enumerate(section.pattern):
            if section.moe is not None and _LAYERS[letter] is _moe_links:
                ours, theirs = f"layers.{layer}.moe.experts", f"model.layers.{layer // 2}.mlp.experts"
                yield Halves((f"{ours}.gate", f"{ours}.up"), (f"{theirs}.gate_up_proj",), section.moe.ffn)
                yield Same((f"{ours}.down",), (f"{theirs}.down_proj",))

    def attention_tables(self, section: DecoderConfig) -> Iterator[Table]:
        """The names below a block's attention."""
        yield ATTENTION
        if self.qkv_bias or section.attention_bias:
            yield QKV_BIAS
        if section.attention_bias:
            yield OUTPUT_BIAS
        if self.qk_norm:
            yield HEAD_NORMS


def _flag(fields: Fields, key: str, *, is_read: bool) -> bool | None:
    """True if a key says that linears have biases, else None; families that do not read the key have none."""
    if is_read:
        return fields.flag(key) or None
    fields.demand(key, False)
    return None


def _attention_links(blocks: Blocks, ours: str, theirs: str, section: DecoderConfig) -> Iterator[Link]:
    return renamed(ours, f"{theirs}.self_attn", *blocks.attention_tables(section))


def _mlp_links(_blocks: Blocks, ours: str, theirs: str, section: DecoderConfig) -> Iterator[Link]:
    return renamed(ours, f"{theirs}.mlp", GATED_MLP, GATED_MLP_BIAS if section.mlp_bias else {})


def _moe_links(_blocks: Blocks, ours: str, theirs: str, section: DecoderConfig) -> Iterator[Link]:
    assert section.moe is not None, "a letter comes with the section that it needs"
    yield from renamed(ours, f"{theirs}.mlp", ROUTER)
    yield from experts(ours, f"{theirs}.mlp", GATED_EXPERTS, section.moe.experts)


_LAYERS: Mapping[str, Callable[[Blocks, str, str, DecoderConfig], Iterator[Link]]] = {
    "*": _attention_links,
    "-": _mlp_links,
    "E": _moe_links,
}
"""The links of a layer by its letter, of the prefixes on both sides and the decoder."""


def kv_heads_of(fields: Fields, heads: int) -> int:
    """Number of heads of keys and values, a divisor of the number of heads; raises CheckpointError."""
    kv_heads = fields.optional("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.unlike("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads, {heads},")
    return kv_heads


def is_tied(fields: Fields) -> bool:
    """Whether head and embedding share a matrix; the section of a composite model need not say. Raises
    CheckpointError."""
    return fields.has("tie_word_embeddings") and fields.flag("tie_word_embeddings")


def _demand_supported(fields: Fields) -> None:
    fields.demand("hidden_act", "silu")
    fields.demand("use_sliding_window", False)
    # Without windows their size says nothing.
    fields.has("sliding_window")
    if fields.has("layer_types") and set(fields.texts("layer_types")) != {"full_attention"}:
        raise fields.unlike("layer_types", fields.values["layer_types"], "'full_attention' for every layer")


def _moe_pattern(fields: Fields, blocks: int) -> str:
    """Experts in every `decoder_sparse_step`th block that is not named as an MLP."""
    dense, step = fields.integers("mlp_only_layers"), fields.integer("decoder_sparse_step")
    return "".join("*-" if i in dense or (i + 1) % step else "*E" for i in range(blocks))


def _moe(fields: Fields) -> MoeConfig:
    # The key has two names: Qwen's own, and the one that transformers writes since version 5.
    names = [key for key in ("num_experts", "num_local_experts") if fields.has(key)]
    counts = {fields.integer(key) for key in names or ["num_local_experts"]}
    if len(counts) > 1:
        raise fields.unlike("num_experts", fields.values["num_experts"], "what num_local_experts says")
    return described(
        MoeConfig,
        fields,
        experts=counts.pop(),
        top_k=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("moe_intermediate_size"),
        router="softmax",
        normalize=fields.flag("norm_topk_prob"),
    )


INV_FREQ = "*.rotary_emb.inv_freq"
"""Frequencies of rotary positions, which older files hold layer by layer."""


def _decoder(blocks: Blocks) -> Decoder:
    return Decoder(
        section=blocks.section,
        links=blocks.links,
        otherwise=blocks.otherwise,
        without_effect=OF_TEXT,
        unused=(INV_FREQ,),
    )


_OF_TWO = Blocks(qkv_bias=True, own_head_dim=False, axes=(16, 24, 24))

LLAMA = _decoder(Blocks(attention_bias=True, mlp_bias=True))
QWEN2 = _decoder(Blocks(qkv_bias=True))
QWEN2_VL = _decoder(_OF_TWO)
QWEN2_5_VL = _decoder(_OF_TWO)
QWEN3 = _decoder(Blocks(attention_bias=True, qk_norm=True))
QWEN3_VL = _decoder(Blocks(attention_bias=True, qk_norm=True, axes=(24, 20, 20), interleaved=True))
QWEN3_MOE = _decoder(Blocks(attention_bias=True, qk_norm=True, experts=True))
