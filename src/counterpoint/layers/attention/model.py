"""A layer of causal grouped-query attention."""

from torch import nn

from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.rotary import Rotary, RotaryEmbedding, Unrotated
from counterpoint.layers.attention.spec import AttentionConfig
from counterpoint.layers.attention.sublayer import Attention
from counterpoint.layers.residual import AttentionLayer, norms_of
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def layer(section: AttentionConfig, hidden: int) -> Layer:
    """rows + post_norm(attention(norm(rows)))."""
    head = section.head_width(hidden)
    attention = Attention(
        hidden,
        section.heads,
        section.num_kv_heads,
        head,
        bias=section.bias,
        qkv_bias=section.has_qkv_bias,
        key_bias=section.has_qkv_bias,
        scores=Scores(causal=True, window=section.window, scale=section.score_scale),
        rotary=_rotary(section, head),
        q_norm=_head_norm(section, head),
        k_norm=_head_norm(section, head),
    )
    norm, post_norm = norms_of(section, hidden)
    return AttentionLayer(norm, attention, post_norm)


def _rotary(section: AttentionConfig, head: int) -> RotaryEmbedding:
    if section.rope_theta is None:
        return Unrotated()
    return Rotary(
        head if section.rope_width is None else section.rope_width,
        section.rope_theta,
        section.rope_sections,
        interleaved=section.rope_interleaved,
        scaling=section.rope_scaling,
    )


def _head_norm(section: AttentionConfig, head: int) -> nn.Module:
    return RmsNorm(head, section.norm_eps) if section.qk_norm else nn.Identity()
