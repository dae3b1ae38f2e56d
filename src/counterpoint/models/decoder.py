"""A causal decoder as a list of parts (Llama, Qwen2 and Qwen3, their mixtures of experts, and Nemotron-H)."""

from collections.abc import Iterator
from functools import partial

from torch import nn

from counterpoint.models.attention import Attention
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.embedding import Embedding, NoCopy, WordsCopy, WordTable
from counterpoint.models.head import Head, TiedHead
from counterpoint.models.insert import DeepInsert
from counterpoint.models.layers import AttentionLayer, MambaLayer, MlpLayer, MoeLayer
from counterpoint.models.mamba import Mamba
from counterpoint.models.mlp import GatedMlp, Mlp, squared_relu
from counterpoint.models.moe import Moe
from counterpoint.models.mtp import MtpDepth
from counterpoint.models.norm import RmsNorm
from counterpoint.models.rotary import Rotary, Turning, Unrotated
from counterpoint.plan.sizes import DecoderSizes, MtpSizes


def decoder_parts(sizes: DecoderSizes) -> list[Part]:
    """The parts `embed`, `layers.N` (one per character of the pattern), with `inserts.N` where features of another
    depth join, `norm`, for multi-token prediction `words` and `mtp.N`, and `head`."""
    return [
        Part("embed", partial(_embedding, sizes), makes_rows=True),
        *_layers(sizes),
        Part("norm", partial(_final_norm, sizes), by_row=True),
        *_further(sizes),
        # Depths of multi-token prediction lie side by side in a row and score rows of their own.
        Part(
            "head",
            partial(_head, sizes),
            reads=_TABLES if sizes.tied else (),
            makes_loss=True,
            scored=sizes.mtp is None,
        ),
    ]


def _layers(sizes: DecoderSizes) -> Iterator[Part]:
    for layer, kind in enumerate(sizes.pattern):
        yield Part(f"layers.{layer}", partial(_LAYER_BUILDERS[kind], sizes), by_row=kind == "-")
        if layer in sizes.inserts:
            yield Part(f"inserts.{layer}", partial(_insert, layer))


def _further(sizes: DecoderSizes) -> Iterator[Part]:
    """The embedding's words, and the depths that read them."""
    if sizes.mtp is not None:
        yield Part("words", partial(_words_copy, sizes))
        for number in range(sizes.mtp.depths):
            yield Part(f"mtp.{number}", partial(_mtp_depth, sizes, sizes.mtp, number), reads=_TABLES)


def _words_copy(sizes: DecoderSizes, earlier: Earlier) -> nn.Module:
    return NoCopy() if "embed" in earlier else WordsCopy(sizes.vocab, sizes.hidden)


def _mtp_depth(sizes: DecoderSizes, mtp: MtpSizes, number: int, earlier: Earlier) -> nn.Module:
    layers = [_LAYER_BUILDERS[kind](sizes, earlier) for kind in mtp.pattern]
    words = _table(earlier)
    assert words is not None, "the words come before the depths that read them"
    return MtpDepth(number + 1, sizes.hidden, sizes.norm_eps, words, layers)


def _table(earlier: Earlier) -> WordTable | None:
    """The words of the embedding, if this chain has them or a copy."""
    return next((table for name in _TABLES if isinstance(table := earlier.get(name), WordTable)), None)


def _insert(layer: int, _earlier: Earlier) -> nn.Module:
    return DeepInsert(layer)


def _embedding(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    return Embedding(sizes.vocab, sizes.hidden)


def _attention_layer(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    attention = Attention(
        sizes.hidden,
        sizes.heads,
        sizes.kv_heads,
        sizes.head_dim,
        bias=sizes.bias,
        qkv_bias=sizes.bias or sizes.qkv_bias,
        key_bias=sizes.bias or sizes.qkv_bias,
        causal=True,
        rotary=_rotary(sizes),
        q_norm=_head_norm(sizes),
        k_norm=_head_norm(sizes),
    )
    return AttentionLayer(RmsNorm(sizes.hidden, sizes.norm_eps), attention)


def _rotary(sizes: DecoderSizes) -> Turning:
    if sizes.rope_theta is None:
        return Unrotated()
    return Rotary(
        sizes.head_dim,
        sizes.rope_theta,
        sizes.rope_sections,
        interleaved=sizes.rope_interleaved,
        scaling=sizes.rope_scaling,
    )


def _head_norm(sizes: DecoderSizes) -> nn.Module:
    return RmsNorm(sizes.head_dim, sizes.norm_eps) if sizes.qk_norm else nn.Identity()


def _mlp_layer(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    mlp: nn.Module
    if sizes.activation == "swiglu":
        mlp = GatedMlp(sizes.hidden, sizes.ffn, bias=sizes.bias)
    else:
        mlp = Mlp(sizes.hidden, sizes.ffn, sizes.hidden, squared_relu, bias=sizes.bias)
    return MlpLayer(RmsNorm(sizes.hidden, sizes.norm_eps), mlp)


def _mamba_layer(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    assert sizes.mamba is not None, "a pattern with M comes with the sizes of Mamba-2"
    return MambaLayer(RmsNorm(sizes.hidden, sizes.norm_eps), Mamba(sizes.hidden, sizes.mamba, sizes.norm_eps))


def _moe_layer(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    assert sizes.moe is not None, "a pattern with E comes with the sizes of the experts"
    return MoeLayer(RmsNorm(sizes.hidden, sizes.norm_eps), Moe(sizes.hidden, sizes.moe, sizes.activation))


def _final_norm(sizes: DecoderSizes, _earlier: Earlier) -> nn.Module:
    return RmsNorm(sizes.hidden, sizes.norm_eps)


def _head(sizes: DecoderSizes, earlier: Earlier) -> nn.Module:
    words = _table(earlier) if sizes.tied else None
    weight = 0.0 if sizes.mtp is None else sizes.mtp.weight / sizes.mtp.depths
    return Head(sizes.vocab, sizes.hidden, weight) if words is None else TiedHead(words, weight)


_TABLES = ("embed", "words")
"""The parts that may hold the embedding's words: itself, and its copy in another stage."""

_LAYER_BUILDERS = {"*": _attention_layer, "-": _mlp_layer, "M": _mamba_layer, "E": _moe_layer}
