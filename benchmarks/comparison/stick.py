"""The baseline's files, imported as they are: they are scripts of a folder, so the folder goes on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "baseline"))

from common import TINY, StepTimer, W, device, gemm_tflops, sync, use_attention_backend
from fsdp2_vlm import (
    IMAGE_TOKENS,
    MAX_IMAGES,
    SAMPLES,
    VLM,
    Trainer,
    collate,
    draw_counts,
    sample,
)

__all__ = [
    "IMAGE_TOKENS",
    "MAX_IMAGES",
    "SAMPLES",
    "TINY",
    "VLM",
    "StepTimer",
    "Trainer",
    "W",
    "collate",
    "device",
    "draw_counts",
    "gemm_tflops",
    "sample",
    "sync",
    "use_attention_backend",
]
