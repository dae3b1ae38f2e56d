"""Whole items of one encoder as what it reads, whatever their kind."""

from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.data.clip_rows import pack_clips
from counterpoint.data.feature_rows import pack_features
from counterpoint.data.image_rows import pack_images
from counterpoint.data.payload import ClipPayload, FeaturePayload, PatchPayload, Payload
from counterpoint.models.batch import AudioBatch, GivenBatch, PatchBatch
from counterpoint.plan.sizes import FeaturesSizes, ImageSizes, ItemSizes


def pack_items(
    payloads: Sequence[Payload], sizes: ItemSizes, dtype: torch.dtype
) -> tuple[PatchBatch | AudioBatch | GivenBatch, Tensor]:
    """Items behind each other, and the rows int64 (rows_out,) of what leaves the model that belong to them."""
    if isinstance(sizes, ImageSizes):
        images = [payload for payload in payloads if isinstance(payload, PatchPayload)]
        assert len(images) == len(payloads), "images enter a vision transformer"
        return pack_images(images, sizes, dtype)
    if isinstance(sizes, FeaturesSizes):
        features = [payload for payload in payloads if isinstance(payload, FeaturePayload)]
        assert len(features) == len(payloads), "features enter a module of their kind"
        return pack_features(features, sizes, dtype)
    clips = [payload for payload in payloads if isinstance(payload, ClipPayload)]
    assert len(clips) == len(payloads), "clips enter an encoder of clips"
    return pack_clips(clips, sizes, dtype)
