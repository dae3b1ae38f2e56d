"""The windows of frames of a clip, one for each row."""

from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoint.kinds.arrays import Bools, Floats, Ints
from counterpoint.modalities.clips.spec import CLIPS, ClipIntake


@final
@dataclass(frozen=True, slots=True)
class ClipPayload:
    """One clip: the `frames` (rows_in, window, mels) that each row reads, bool `filled` (rows_in, window) where the
    clip has a frame (others are zeros), and the rows' `positions` (rows_in,)."""

    frames: Floats
    filled: Bools
    positions: Ints

    @property
    def kind(self) -> str:
        """The kind of item."""
        return CLIPS.name

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.frames)

    @property
    def cells(self) -> int:
        """The number of rows."""
        return self.rows

    @property
    def described(self) -> str:
        """The shape of the rows, in words."""
        return f"{self.rows} rows of frames"


def cut_windows(frames: Floats, intake: ClipIntake) -> ClipPayload:
    """The windows of a clip's frames (frames, mels); frames outside of the clip are zeros."""
    middles = np.arange(0, len(frames), intake.stride, dtype=np.int64)
    places = middles[:, None] + np.arange(intake.window) - intake.window // 2
    filled = (places >= 0) & (places < len(frames))
    windows = np.where(filled[:, :, None], frames[places.clip(0, len(frames) - 1)], np.float32(0))
    return ClipPayload(windows, filled, np.arange(len(middles), dtype=np.int64))
