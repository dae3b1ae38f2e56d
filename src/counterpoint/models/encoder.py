"""What encoders share: layers, their taps, a norm and a projector."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import nn

from counterpoint.models.attention import Attention
from counterpoint.models.chain import Part
from counterpoint.models.layers import EncoderLayer
from counterpoint.models.mlp import Mlp, gelu
from counterpoint.models.norm import LayerNorm
from counterpoint.models.projector import LinearProjector, MlpProjector
from counterpoint.models.rotary import Unrotated
from counterpoint.plan.sizes import EncoderSizes

Earlier = Mapping[str, nn.Module]


def encoder_parts(sizes: EncoderSizes, embedding: Callable[[Earlier], nn.Module]) -> list[Part]:
    """The parts `embed`, `layers.N`, each with its `taps.N` where it has one, `norm` and `projector`."""
    return [
        Part("embed", embedding, makes_rows=True),
        *_layers(sizes),
        Part("norm", partial(_final_norm, sizes)),
        Part("projector", partial(_projector, sizes)),
    ]


def port_of(layer: int) -> str:
    """The port by which what leaves a layer is handed on."""
    return f"d{layer}"


def _layers(sizes: EncoderSizes) -> Iterator[Part]:
    for layer in range(sizes.layers):
        yield Part(f"layers.{layer}", partial(_layer, sizes))
        if layer in sizes.taps:
            yield Part(f"taps.{layer}", partial(_projector, sizes), emits=port_of(layer))


def _layer(sizes: EncoderSizes, _earlier: Earlier) -> nn.Module:
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


def _final_norm(sizes: EncoderSizes, _earlier: Earlier) -> nn.Module:
    return LayerNorm(sizes.hidden, sizes.norm_eps)


def _projector(sizes: EncoderSizes, _earlier: Earlier) -> nn.Module:
    group = sizes.merge * sizes.merge
    norm = LayerNorm(sizes.merged, sizes.norm_eps) if sizes.projector_norm else nn.Identity()
    if sizes.projector == "linear":
        return LinearProjector(group, norm, sizes.merged, sizes.out)
    return MlpProjector(group, norm, sizes.merged, sizes.projector_hidden, sizes.out)
