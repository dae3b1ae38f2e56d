"""The parts of a vision transformer with its projector (Dosovitskiy et al., 2020)."""

from functools import partial

from torch import nn

from counterpoint.families.encoder_parts import Sees, tower_parts
from counterpoint.families.vit.patches import FilteredPositions, PatchEmbedding, PositionTable, PrefixTable, Unchanged
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends
from counterpoint.layers.attention.rotary import PatchRotary, RotaryEmbedding, Unrotated
from counterpoint.layers.attention.sublayer import of_documents
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.norm import norm_of
from counterpoint.models.segments import Windows


def parts(section: VitConfig, ends: Ends) -> list[Part]:
    """The parts of an encoder of patches, whose projector merges rows and changes their width."""
    return tower_parts(
        section,
        ends,
        section.merge**2,
        partial(_embedding, section),
        partial(_rotary, section),
        partial(_sees, section),
    )


def _sees(section: VitConfig, layer: int) -> Sees:
    return _of_windows if section.is_windowed(layer) else of_documents


def _of_windows(batch: PatchBatch) -> Windows:
    return batch.windows


def _rotary(section: VitConfig) -> RotaryEmbedding:
    return Unrotated() if section.rotary_theta is None else PatchRotary(section.head_size, section.rotary_theta)


def _embedding(section: VitConfig, _earlier: Earlier) -> nn.Module:
    return PatchEmbedding(
        section.patch_dim,
        section.hidden,
        bias=section.patch_bias,
        positions=_positions(section),
        prefix=PrefixTable(section.prefix, section.hidden) if section.prefix else Unchanged(),
        norm=norm_of(section.norm if section.embed_norm else "none", section.hidden, section.norm_eps),
    )


def _positions(section: VitConfig) -> nn.Module:
    if not section.positions:
        return Unchanged()
    if section.fit == "antialias":
        return FilteredPositions(section.positions, section.hidden)
    return PositionTable(section.positions, section.hidden, section.fit)
