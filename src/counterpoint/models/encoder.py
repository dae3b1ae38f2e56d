"""What encoders share: layers, their taps, a norm and a projector."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from counterpoint.models.attention import Attention, of_documents
from counterpoint.models.chain import Build, Earlier, Part
from counterpoint.models.layers import EncoderLayer
from counterpoint.models.linear import Linear
from counterpoint.models.mlp import ACTIVATIONS, GatedMlp, Mlp
from counterpoint.models.norm import Scale, norm_of
from counterpoint.models.projector import Projector
from counterpoint.models.rotary import Turning, Unrotated
from counterpoint.models.segments import Segments, Windows
from counterpoint.plan.sizes import CustomSizes, FeaturesSizes, ProjectorSizes, TowerSizes

Sees = Callable[[Any], Segments | Windows]


def encoder_parts(
    sizes: TowerSizes,
    group: int,
    embedding: Build,
    rotary: Callable[[], Turning] = Unrotated,
    sees: Callable[[int], Sees] = lambda _layer: of_documents,
) -> list[Part]:
    """The parts `embed`, `layers.N`, each with its `taps.N` where it has one, `norm` if there is one, and `projector`.

    `group` rows that leave the layers become one; `rotary` turns queries and keys; `sees(layer)` is what attention
    of a layer looks at.
    """

    def layer(number: int) -> Build:
        return partial(_layer, sizes, rotary, sees(number))

    parts = [Part("embed", embedding, makes_rows=True), *layer_parts(sizes, group, layer)]
    if sizes.final_norm:
        parts.append(Part("norm", partial(_final_norm, sizes)))
    return [*parts, projector_part(sizes, group)]


def projector_part(sizes: TowerSizes | CustomSizes | FeaturesSizes, group: int) -> Part:
    """The last part of an encoder, which makes one row of `group`."""
    return Part("projector", partial(_projector, sizes, group, sizes.projector))


def port_of(layer: int) -> str:
    """The port by which what leaves a layer is handed on."""
    return f"d{layer}"


def layer_parts(sizes: TowerSizes, group: int, build: Callable[[int], Build]) -> Iterator[Part]:
    """The parts `layers.N`, each with its `taps.N` where it has one; `build(layer)` makes a layer."""
    tap = replace(sizes.projector, norm=sizes.tap_norm)
    for layer in range(sizes.layers):
        yield Part(f"layers.{layer}", build(layer))
        if layer in sizes.taps:
            yield Part(f"taps.{layer}", partial(_projector, sizes, group, tap), emits=port_of(layer))


def _layer(sizes: TowerSizes, rotary: Callable[[], Turning], sees: Sees, _earlier: Earlier) -> nn.Module:
    attention = Attention(
        sizes.hidden,
        sizes.heads,
        sizes.heads,
        sizes.head_dim,
        bias=True,
        qkv_bias=sizes.qkv_bias,
        key_bias=sizes.qkv_bias and sizes.key_bias,
        causal=False,
        rotary=rotary(),
        q_norm=nn.Identity(),
        k_norm=nn.Identity(),
        sees=sees,
    )
    return EncoderLayer(_norm(sizes), attention, _scale(sizes), _norm(sizes), _mlp(sizes), _scale(sizes))


def _mlp(sizes: TowerSizes) -> nn.Module:
    if sizes.activation == "swiglu":
        return GatedMlp(sizes.hidden, sizes.ffn, bias=True)
    return Mlp(sizes.hidden, sizes.ffn, sizes.hidden, ACTIVATIONS[sizes.activation], bias=True)


def _norm(sizes: TowerSizes) -> nn.Module:
    return norm_of(sizes.norm, sizes.hidden, sizes.norm_eps)


def _scale(sizes: TowerSizes) -> nn.Module:
    return Scale(sizes.hidden) if sizes.layer_scale else nn.Identity()


def _final_norm(sizes: TowerSizes, _earlier: Earlier) -> nn.Module:
    return _norm(sizes)


def _projector(
    sizes: TowerSizes | CustomSizes | FeaturesSizes, group: int, projector: ProjectorSizes, _earlier: Earlier
) -> nn.Module:
    inputs = sizes.hidden * group
    norm = norm_of(projector.norm, inputs, projector.norm_eps)
    if projector.kind == "linear":
        return Projector(group, norm, ("linear", Linear(inputs, sizes.out, bias=projector.bias)))
    activation = ACTIVATIONS[projector.activation]
    return Projector(group, norm, ("mlp", Mlp(inputs, projector.hidden, sizes.out, activation, bias=projector.bias)))
