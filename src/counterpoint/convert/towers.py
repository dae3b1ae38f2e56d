"""Encoders whose checkpoints are read, by the `model_type` of their config.json."""

from collections.abc import Mapping
from typing import Any

from counterpoint.convert.clip import CLIP, SIGLIP, SIGLIP2
from counterpoint.convert.convnext import CONVNEXT
from counterpoint.convert.parakeet import PARAKEET
from counterpoint.convert.radio import RADIO
from counterpoint.convert.tower import Tower
from counterpoint.convert.whisper import WHISPER

TOWERS: Mapping[str, Tower[Any]] = {
    "clip_vision_model": CLIP,
    "siglip_vision_model": SIGLIP,
    "siglip2_vision_model": SIGLIP2,
    "radio": RADIO,
    "convnextv2": CONVNEXT,
    "whisper": WHISPER,
    "parakeet_encoder": PARAKEET,
}
