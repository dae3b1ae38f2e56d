"""Whole items of one encoder as what it reads, whatever their kind."""

from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.data.clip_rows import pack_clips
from counterpoint.data.image_rows import pack_images
from counterpoint.data.payload import ClipPayload, PatchPayload, Payload
from counterpoint.models.batch import AudioBatch, PatchBatch
from counterpoint.plan.sizes import AudioSizes, VitSizes


def pack_items(
    payloads: Sequence[Payload], sizes: VitSizes | AudioSizes, dtype: torch.dtype
) -> tuple[PatchBatch | AudioBatch, Tensor]:
    """Items behind each other, and the rows int64 (rows_out,) of what leaves the model that belong to them."""
    if isinstance(sizes, VitSizes):
        images = [payload for payload in payloads if isinstance(payload, PatchPayload)]
        assert len(images) == len(payloads), "images enter a vision transformer"
        return pack_images(images, sizes, dtype)
    clips = [payload for payload in payloads if isinstance(payload, ClipPayload)]
    assert len(clips) == len(payloads), "clips enter an encoder of clips"
    return pack_clips(clips, sizes, dtype)
