"""Parts that encoders share: layers, their taps, a norm and a projector."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

from counterpoint.families.encoder import EncoderSection, LayeredSection, TowerSection
from counterpoint.kinds.family import Ends
from counterpoint.kinds.named import named
from counterpoint.kinds.projector import ProjectorSection
from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.rotary import RotaryEmbedding, Unrotated
from counterpoint.layers.attention.sublayer import Attention, of_documents
from counterpoint.layers.residual import EncoderLayer
from counterpoint.models.chain import Build, Earlier, Part, port_of
from counterpoint.models.mlp import mlp_of
from counterpoint.models.norm import Scale, norm_of
from counterpoint.models.segments import Segments, Windows
from counterpoint.projectors import PROJECTORS

Sees = Callable[[Any], Segments | Windows]


def tower_parts(
    section: TowerSection,
    ends: Ends,
    group: int,
    embedding: Build,
    rotary: Callable[[], RotaryEmbedding] = Unrotated,
    sees: Callable[[int], Sees] = lambda _layer: of_documents,
) -> list[Part]:
    """The parts `embed`, `layers.N`, `taps.N` after layers whose output is a port, `norm` if any, and `projector`.

    The projector merges `group` rows; `rotary` rotates queries and keys; `sees(layer)` returns the groups of rows that
    attend to each other in a layer.
    """

    def layer(number: int) -> Build:
        return partial(_layer, section, rotary, sees(number))

    parts = [Part("embed", embedding, makes_rows=True), *layer_parts(section, ends, group, layer)]
    if section.final_norm:
        parts.append(Part("norm", partial(_final_norm, section)))
    return [*parts, projector_part(section, ends, group)]


def projector_part(section: EncoderSection, ends: Ends, group: int) -> Part:
    """The last part of an encoder, which merges `group` rows."""
    return Part("projector", partial(_projector, section.projector, section.projected * group, ends.leaving, group))


def layer_parts(section: LayeredSection, ends: Ends, group: int, build: Callable[[int], Build]) -> Iterator[Part]:
    """The parts `layers.N`, each followed by `taps.N` if its output is a port; `build(layer)` builds a layer."""
    tap = section.projector.model_copy(update={"norm": section.tap_norm})
    inputs = section.hidden * group
    for layer in range(section.layers):
        yield Part(f"layers.{layer}", build(layer))
        if layer in ends.taps:
            build_tap = partial(_projector, tap, inputs, ends.leaving, group)
            yield Part(f"taps.{layer}", build_tap, emits=port_of(layer))


def _layer(section: TowerSection, rotary: Callable[[], RotaryEmbedding], sees: Sees, _earlier: Earlier) -> nn.Module:
    attention = Attention(
        section.hidden,
        section.heads,
        section.heads,
        section.head_size,
        bias=True,
        qkv_bias=section.qkv_bias,
        key_bias=section.qkv_bias and section.key_bias,
        scores=Scores(causal=False),
        rotary=rotary(),
        q_norm=nn.Identity(),
        k_norm=nn.Identity(),
        sees=sees,
    )
    return EncoderLayer(_norm(section), attention, _scale(section), _norm(section), _mlp(section), _scale(section))


def _mlp(section: TowerSection) -> nn.Module:
    return mlp_of(section.activation, section.hidden, section.ffn, bias=True)


def _norm(section: TowerSection) -> nn.Module:
    return norm_of(section.norm, section.hidden, section.norm_eps)


def _scale(section: TowerSection) -> nn.Module:
    return Scale(section.hidden) if section.layer_scale else nn.Identity()


def _final_norm(section: TowerSection, _earlier: Earlier) -> nn.Module:
    return _norm(section)


def _projector(projector: ProjectorSection, inputs: int, outputs: int, group: int, _earlier: Earlier) -> nn.Module:
    built: nn.Module = named(PROJECTORS[projector.kind].part)(projector, group, inputs, outputs)
    return built
