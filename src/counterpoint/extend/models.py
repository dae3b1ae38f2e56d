"""Pieces of models for plug-ins, and the seams by which parallelism gets into them; loads torch."""

from counterpoint.families.encoder_parts import projector_part
from counterpoint.layers.residual import norms_of
from counterpoint.models.batch import Batch
from counterpoint.models.chain import Chain, Earlier, Part, build_chain
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.mlp import Mlp, mlp_of
from counterpoint.models.norm import LayerNorm, RmsNorm, norm_of
from counterpoint.models.seams import (
    ChannelSum,
    Enter,
    Fusible,
    Layer,
    Leave,
    Mix,
    OwnChannels,
    OwnShare,
    RowsEnter,
    RowsLeave,
    Trade,
    WholeLane,
    Wide,
    widened,
)
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import ScalingUpdate, Shard, Spread, Team, Update
from counterpoint.projectors.part import Projector, merge_patches

__all__ = [
    "Batch",
    "Chain",
    "ChannelSum",
    "Earlier",
    "Enter",
    "Fusible",
    "Layer",
    "LayerNorm",
    "Leave",
    "Linear",
    "Mix",
    "Mlp",
    "OutputLinear",
    "OwnChannels",
    "OwnShare",
    "Part",
    "Piece",
    "Projector",
    "RmsNorm",
    "RowsEnter",
    "RowsLeave",
    "ScalingUpdate",
    "Shard",
    "Spread",
    "Team",
    "Trade",
    "Update",
    "WholeLane",
    "Wide",
    "build_chain",
    "merge_patches",
    "mlp_of",
    "norm_of",
    "norms_of",
    "projector_part",
    "widened",
]
