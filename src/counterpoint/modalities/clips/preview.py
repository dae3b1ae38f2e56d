"""Clips for people: the waveform above the log-mel bands, low ones at the bottom."""

from collections.abc import Sequence

import numpy as np

from counterpoint.kinds.arrays import Floats
from counterpoint.kinds.modality import Extent
from counterpoint.modalities.clips.clip_file import read_clip
from counterpoint.modalities.clips.mel import log_mel
from counterpoint.modalities.clips.spec import HOP, ClipIntake
from counterpoint.modalities.clips.windows import ClipPayload
from counterpoint.modalities.preview import LONGER_SIDE, Picture, heat

_BANDS = 80
_HEIGHT = 64
_INK = (47, 109, 181)


class ClipPreview:
    """Draws clips from left to right."""

    def stored(self, files: Sequence[bytes], extent: Extent) -> Picture:
        """The waveform, and below it its bands."""
        (data,), (samples,) = files, extent
        wave = read_clip(data, samples)
        padded = np.pad(wave, (0, max(2 * HOP - samples, 0)))
        bands = heat(_upright(log_mel(padded, _BANDS)))
        return np.concatenate([waveform(wave, bands.shape[1]), bands])

    def seen(self, payload: ClipPayload, intake: ClipIntake) -> Picture:
        """The middle frame of each row's window, as normalised for the module."""
        return heat(_upright(payload.frames[:, intake.window // 2]))

    def oddity(self, _extent: Extent) -> str | None:
        """None: clips have any length."""
        return None


def waveform(wave: Floats, width: int) -> Picture:
    """The range of the samples (samples,) under each column, over [-1, 1]."""
    picture = np.full((_HEIGHT, width, 3), 255, dtype=np.uint8)
    starts = np.arange(width) * len(wave) // width
    chosen = np.minimum(starts, len(wave) - 1)
    high, low = np.maximum.reduceat(wave, chosen), np.minimum.reduceat(wave, chosen)
    rows = np.arange(_HEIGHT)[:, None]
    top, bottom = (((1 - one.clip(-1, 1)) / 2 * (_HEIGHT - 1)).round() for one in (high, low))
    picture[(rows >= top) & (rows <= bottom)] = _INK
    return picture


def _upright(frames: Floats) -> Floats:
    """Frames (frames, bands) with time to the right, at least a few pixels wide, and high bands on top."""
    wide = np.repeat(frames, max(1, LONGER_SIDE // (4 * len(frames))), axis=0)
    return np.ascontiguousarray(wide.T[::-1])
