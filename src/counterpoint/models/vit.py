"""A vision transformer with its projector as a list of parts (Dosovitskiy et al., 2020)."""

from functools import partial

from torch import nn

from counterpoint.models.attention import of_documents
from counterpoint.models.batch import PatchBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.encoder import Sees, encoder_parts
from counterpoint.models.norm import norm_of
from counterpoint.models.patches import FilteredPositions, PatchEmbedding, PositionTable, PrefixTable, Unchanged
from counterpoint.models.rotary import PatchRotary, Turning, Unrotated
from counterpoint.models.segments import Windows
from counterpoint.plan.sizes import VitSizes


def vit_parts(sizes: VitSizes) -> list[Part]:
    """An encoder of patches, whose projector merges them and changes the width."""
    return encoder_parts(
        sizes, sizes.merge**2, partial(_embedding, sizes), partial(_rotary, sizes), partial(_sees, sizes)
    )


def _sees(sizes: VitSizes, layer: int) -> Sees:
    return _of_windows if sizes.is_windowed(layer) else of_documents


def _of_windows(batch: PatchBatch) -> Windows:
    return batch.windows


def _rotary(sizes: VitSizes) -> Turning:
    return Unrotated() if sizes.rotary_theta is None else PatchRotary(sizes.head_dim, sizes.rotary_theta)


def _embedding(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    return PatchEmbedding(
        sizes.patch_dim,
        sizes.hidden,
        bias=sizes.patch_bias,
        positions=_positions(sizes),
        prefix=PrefixTable(sizes.prefix, sizes.hidden) if sizes.prefix else Unchanged(),
        norm=norm_of(sizes.norm if sizes.embed_norm else "none", sizes.hidden, sizes.norm_eps),
    )


def _positions(sizes: VitSizes) -> nn.Module:
    if not sizes.positions:
        return Unchanged()
    if sizes.fit == "antialias":
        return FilteredPositions(sizes.positions, sizes.hidden)
    return PositionTable(sizes.positions, sizes.hidden, sizes.fit)
