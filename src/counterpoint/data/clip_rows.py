"""The rows of clips among those of a batch."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.own_rows import Own, lay_whole
from counterpoint.data.payload import ClipPayload
from counterpoint.models.batch import AudioBatch
from counterpoint.models.segments import Segments
from counterpoint.plan.sizes import AudioSizes


def clip_batch(
    clips: Iterable[Own[ClipPayload]], sizes: AudioSizes, rows: int, segments: Segments, dtype: torch.dtype
) -> AudioBatch:
    """`rows` rows of windows of frames; what no clip fills is an empty window at the first position."""
    frames = np.zeros((rows, sizes.window, sizes.mels), dtype=np.float32)
    filled = np.zeros((rows, sizes.window), dtype=np.bool_)
    positions = np.zeros(rows, dtype=np.int64)
    for own in clips:
        frames[own.here], filled[own.here] = own.payload.frames[own.there], own.payload.filled[own.there]
        positions[own.here] = own.payload.positions[own.there]
    return AudioBatch(
        frames=torch.from_numpy(frames).to(dtype),
        filled=torch.from_numpy(filled),
        positions=torch.from_numpy(positions),
        segments=segments,
    )


def pack_clips(payloads: Sequence[ClipPayload], sizes: AudioSizes, dtype: torch.dtype) -> tuple[AudioBatch, Tensor]:
    """Whole clips behind each other, and the rows int64 (rows_out,) of what leaves the model, which are all theirs."""
    clips, segments = lay_whole(payloads)
    return clip_batch(clips, sizes, segments.rows, segments, dtype), torch.arange(segments.rows // sizes.stack)
