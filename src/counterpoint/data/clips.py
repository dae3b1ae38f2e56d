"""Clips as rows: how many rows a clip becomes, from its length alone, and the window of frames behind each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.data.mel import HOP, RATE, log_mel
from counterpoint.data.normalised_mel import normalised_log_mel
from counterpoint.data.payload import AUDIO, ClipPayload, Extent, Floats, Kind, Placed
from counterpoint.data.wave_file import read_wave

_FEWEST_NORMALISED = 2


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """How clips enter a module: a row reads `window` frames of `mels` bands around every `stride`-th, and `stack` rows
    leave as one.

    With `seconds` every clip is cut or filled up with silence to that length, else only to whole stacks. The module
    takes at most `positions` rows of a clip, which `seconds` are known to be. `mark` stood for a clip in the text that
    was prepared. With `normalised` frames are NeMo's, and a clip is not filled up to whole stacks: what its last rows
    lack is not there.
    """

    module: str
    mels: int
    window: int
    stride: int
    stack: int
    positions: int
    seconds: int | None = None
    mark: str = "<audio>"
    normalised: bool = False

    @property
    def kind(self) -> Kind:
        """What the module takes."""
        return AUDIO

    @property
    def most_samples(self) -> int:
        """The samples of the longest clip that the module takes whole."""
        return self.positions // self.stack * self._unit

    def fits(self, extent: Extent) -> bool:
        """Whether the module takes a clip of `extent`, (samples,)."""
        (samples,) = extent
        return self._rows(samples) <= self.positions

    def place(self, extent: Extent) -> Placed:
        """The rows of a clip of `extent`, (samples,); they follow one another in time, like text."""
        (samples,) = extent
        rows = self._rows(samples)
        return Placed(self.module, rows, rows // self.stack, columns=None)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which files of an entry of the index make each item: a clip is one file."""
        return (slice(0, files),)

    def read(self, files: Sequence[bytes], extent: Extent) -> ClipPayload:
        """The rows of an encoded clip; raises DataError if it cannot be decoded or is not as long as indexed."""
        (data,), (samples,) = files, extent
        wave = read_wave(data, samples)[: self._whole(samples)]
        silence = np.zeros(self._whole(samples) - len(wave), dtype=np.float32)
        frames_of = normalised_log_mel if self.normalised else log_mel
        return self.lay(frames_of(np.concatenate([wave, silence]), self.mels))

    def neutral(self, extent: Extent) -> ClipPayload:
        """The rows of a clip of this size without any sound."""
        (samples,) = extent
        return self.lay(np.zeros((self._whole(samples) // HOP, self.mels), dtype=np.float32))

    def noise(self, generator: np.random.Generator, extent: Extent) -> ClipPayload:
        """The rows of a clip of this size whose frames are uniform in [-1, 1)."""
        (samples,) = extent
        return self.lay(generator.random((self._whole(samples) // HOP, self.mels), dtype=np.float32) * 2 - 1)

    def lay(self, frames: Floats) -> ClipPayload:
        """The windows of a clip's frames (frames, mels); what they have outside of the clip is zero."""
        middles = np.arange(0, len(frames), self.stride, dtype=np.int64)
        places = middles[:, None] + np.arange(self.window) - self.window // 2
        filled = (places >= 0) & (places < len(frames))
        windows = np.where(filled[:, :, None], frames[places.clip(0, len(frames) - 1)], np.float32(0))
        return ClipPayload(windows, filled, np.arange(len(middles), dtype=np.int64))

    @property
    def _unit(self) -> int:
        """Samples of one row that leaves."""
        return HOP * self.stride * self.stack

    def _whole(self, samples: int) -> int:
        """Samples of a clip after cutting or filling up: whole stacks, or whole frames, of which it takes two to
        normalise them."""
        if self.seconds is not None:
            samples = self.seconds * RATE
        if self.normalised:
            return max(samples // HOP, _FEWEST_NORMALISED) * HOP
        return -(-samples // self._unit) * self._unit

    def _rows(self, samples: int) -> int:
        return -(-self._whole(samples) // (HOP * self.stride))
