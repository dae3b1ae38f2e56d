"""A vision transformer with its projector as a list of parts (Dosovitskiy et al., 2020)."""

from collections.abc import Mapping
from functools import partial

from torch import nn

from counterpoint.models.attention import Attention
from counterpoint.models.chain import Part
from counterpoint.models.layers import EncoderLayer
from counterpoint.models.mlp import Mlp, gelu
from counterpoint.models.norm import LayerNorm
from counterpoint.models.patches import PatchEmbedding
from counterpoint.models.projector import LinearProjector, MlpProjector
from counterpoint.models.rotary import Unrotated
from counterpoint.plan.sizes import VitSizes

Earlier = Mapping[str, nn.Module]


def vit_parts(sizes: VitSizes) -> list[Part]:
    """The parts `embed`, `layers.N`, `norm` and `projector`, which merges patches and changes the width."""
    return [
        Part("embed", partial(_embedding, sizes), makes_rows=True),
        *(Part(f"layers.{i}", partial(_layer, sizes)) for i in range(sizes.layers)),
        Part("norm", partial(_final_norm, sizes)),
        Part("projector", partial(_projector, sizes)),
    ]


def _embedding(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    return PatchEmbedding(sizes.patch_dim, sizes.hidden, sizes.positions)


def _layer(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    attention = Attention(
        sizes.hidden,
        sizes.heads,
        sizes.heads,
        sizes.hidden // sizes.heads,
        bias=True,
        qkv_bias=True,
        causal=False,
        rotary=Unrotated(),
        q_norm=nn.Identity(),
        k_norm=nn.Identity(),
    )
    mlp = Mlp(sizes.hidden, sizes.ffn, sizes.hidden, gelu, bias=True)
    return EncoderLayer(
        LayerNorm(sizes.hidden, sizes.norm_eps), attention, LayerNorm(sizes.hidden, sizes.norm_eps), mlp
    )


def _final_norm(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    return LayerNorm(sizes.hidden, sizes.norm_eps)


def _projector(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    group = sizes.merge * sizes.merge
    norm = LayerNorm(sizes.merged, sizes.norm_eps) if sizes.projector_norm else nn.Identity()
    if sizes.projector == "linear":
        return LinearProjector(group, norm, sizes.merged, sizes.out)
    return MlpProjector(group, norm, sizes.merged, sizes.projector_hidden, sizes.out)
