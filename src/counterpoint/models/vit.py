"""A vision transformer with its projector as a list of parts (Dosovitskiy et al., 2020)."""

from functools import partial

from torch import nn

from counterpoint.models.chain import Part
from counterpoint.models.encoder import Earlier, encoder_parts
from counterpoint.models.patches import PatchEmbedding
from counterpoint.plan.sizes import VitSizes


def vit_parts(sizes: VitSizes) -> list[Part]:
    """An encoder of patches, whose projector merges them and changes the width."""
    return encoder_parts(sizes, partial(_embedding, sizes))


def _embedding(sizes: VitSizes, _earlier: Earlier) -> nn.Module:
    return PatchEmbedding(sizes.patch_dim, sizes.hidden, sizes.positions)
