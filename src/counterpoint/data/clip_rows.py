"""The rows of clips among those of a batch."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.payload import ClipPayload
from counterpoint.models.batch import AudioBatch
from counterpoint.models.segments import Segments
from counterpoint.plan.sizes import AudioSizes


class OwnClip(NamedTuple):
    """A clip of which a process holds rows: `here` among its own are `there` of the clip."""

    payload: ClipPayload
    here: slice
    there: slice


def clip_batch(
    clips: Iterable[OwnClip], sizes: AudioSizes, rows: int, segments: Segments, dtype: torch.dtype
) -> AudioBatch:
    """`rows` rows of windows of frames; what no clip fills is an empty window at the first position."""
    frames = np.zeros((rows, sizes.window, sizes.mels), dtype=np.float32)
    filled = np.zeros((rows, sizes.window), dtype=np.bool_)
    positions = np.zeros(rows, dtype=np.int64)
    for payload, here, there in clips:
        frames[here], filled[here] = payload.frames[there], payload.filled[there]
        positions[here] = payload.positions[there]
    return AudioBatch(
        frames=torch.from_numpy(frames).to(dtype),
        filled=torch.from_numpy(filled),
        positions=torch.from_numpy(positions),
        segments=segments,
    )


def pack_clips(payloads: Sequence[ClipPayload], sizes: AudioSizes, dtype: torch.dtype) -> tuple[AudioBatch, Tensor]:
    """Whole clips behind each other, and the rows int64 (rows_out,) of what leaves the model, which are all theirs."""
    clips, row = list[OwnClip](), 0
    for payload in payloads:
        clips.append(OwnClip(payload, slice(row, row + payload.rows), slice(0, payload.rows)))
        row += payload.rows
    segments = Segments.build([payload.rows for payload in payloads], row)
    return clip_batch(clips, sizes, row, segments, dtype), torch.arange(row // sizes.stack)
