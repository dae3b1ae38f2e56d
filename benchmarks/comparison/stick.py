"""The baseline's files, imported as they are: they are scripts of a folder, so the folder goes on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "baseline"))

from common import TINY, StepTimer, W, device, gemm_tflops, sync, use_attention_backend
from fsdp2_hybrid import HybridTrainer, draw_batch, draw_tokens, token_of_share
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
from hybrid_model import FLOPS_CHUNK, FULL, NO_LABEL, SMALL, HybridModel, Kernels, Sizes

__all__ = [
    "FLOPS_CHUNK",
    "FULL",
    "IMAGE_TOKENS",
    "MAX_IMAGES",
    "NO_LABEL",
    "SAMPLES",
    "SMALL",
    "TINY",
    "VLM",
    "HybridModel",
    "HybridTrainer",
    "Kernels",
    "Sizes",
    "StepTimer",
    "Trainer",
    "W",
    "collate",
    "device",
    "draw_batch",
    "draw_counts",
    "draw_tokens",
    "gemm_tflops",
    "sample",
    "sync",
    "token_of_share",
    "use_attention_backend",
]
