"""Clips as rows: how they are read, replaced where unreadable, and laid out in a lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from counterpoint.kinds.modality import Extent
from counterpoint.modalities.clips.clip_file import read_clip
from counterpoint.modalities.clips.mel import log_mel
from counterpoint.modalities.clips.normalised_mel import normalised_log_mel
from counterpoint.modalities.clips.spec import HOP, ClipIntake
from counterpoint.modalities.clips.windows import ClipPayload, cut_windows
from counterpoint.modalities.lane import Lane
from counterpoint.models.batch import AudioBatch


@final
@dataclass(frozen=True, slots=True)
class ClipRows:
    """How clips enter a module."""

    intake: ClipIntake

    def read(self, files: Sequence[bytes], extent: Extent) -> ClipPayload:
        """The rows of an encoded clip; raises DataError if it cannot be decoded or is not as long as indexed."""
        (data,), (samples,) = files, extent
        whole = self.intake.whole_samples(samples)
        wave = read_clip(data, samples, None if self.intake.seconds is None else whole)
        # Of a clip of its own length, samples after the last whole frame stay: that frame's window reaches them.
        silence = np.zeros(max(whole - len(wave), 0), dtype=np.float32)
        frames_of = normalised_log_mel if self.intake.normalised else log_mel
        return cut_windows(frames_of(np.concatenate([wave, silence]), self.intake.mels), self.intake)

    def neutral(self, extent: Extent) -> ClipPayload:
        """The rows of a silent clip of this size."""
        return cut_windows(np.zeros(self._shape(extent), dtype=np.float32), self.intake)

    def noise(self, generator: np.random.Generator, extent: Extent) -> ClipPayload:
        """The rows of a clip of this size whose frames are uniform in [-1, 1)."""
        return cut_windows(generator.random(self._shape(extent), dtype=np.float32) * 2 - 1, self.intake)

    def batch(self, lane: Lane[ClipPayload], dtype: torch.dtype) -> AudioBatch:
        """The windows of the process's own rows; a row without a clip has an empty window at the first position."""
        intake, rows = self.intake, lane.own_rows
        frames = np.zeros((rows, intake.window, intake.mels), dtype=np.float32)
        filled = np.zeros((rows, intake.window), dtype=np.bool_)
        positions = np.zeros(rows, dtype=np.int64)
        for own in lane.own:
            frames[own.here], filled[own.here] = own.payload.frames[own.there], own.payload.filled[own.there]
            positions[own.here] = own.payload.positions[own.there]
        return AudioBatch(
            frames=torch.from_numpy(frames).to(dtype),
            filled=torch.from_numpy(filled),
            positions=torch.from_numpy(positions),
            segments=lane.segments(),
        )

    def _shape(self, extent: Extent) -> tuple[int, int]:
        """(frames, mels) of a clip of this size."""
        (samples,) = extent
        return self.intake.whole_samples(samples) // HOP, self.intake.mels
