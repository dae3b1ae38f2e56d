"""Decoders whose checkpoints are read, by the `model_type` of their config.json."""

from collections.abc import Mapping

from counterpoint.convert.blocks import LLAMA, QWEN2, QWEN2_5_VL, QWEN2_VL, QWEN3, QWEN3_MOE, QWEN3_VL
from counterpoint.convert.decoder import Decoder
from counterpoint.convert.gemma import GEMMA3
from counterpoint.convert.hybrid import NEMOTRON_H
from counterpoint.errors import CheckpointError

DECODERS: Mapping[str, Decoder] = {
    "llama": LLAMA,
    "qwen2": QWEN2,
    "qwen2_vl_text": QWEN2_VL,
    "qwen2_5_vl_text": QWEN2_5_VL,
    "qwen3": QWEN3,
    "qwen3_vl_text": QWEN3_VL,
    "qwen3_moe": QWEN3_MOE,
    "nemotron_h": NEMOTRON_H,
    "gemma3_text": GEMMA3,
}


def decoder_named(name: str) -> Decoder:
    """The decoder of this `model_type`; raises CheckpointError."""
    if name not in DECODERS:
        raise CheckpointError(f"Model type {name!r} is none of {', '.join(DECODERS)}: choose a model of one of these.")
    return DECODERS[name]
