"""Clips that are no plain WAV, block by block: by libsndfile where it reads them, else by FFmpeg.

Both give the same samples, but only libsndfile counts Vorbis exactly and notices damaged FLAC, and only FFmpeg prints
nothing about odd MP3.
"""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.sound import mix
from counterpoint.modalities.containers import CLIP, load_package, opened, refusing

Block = tuple[int, Floats]
"""Samples a second, and the mean of the channels of some samples, float32 (samples,), full scale 1."""

LIBSNDFILE = ("flac", "ogg", "wav", "aiff", "caf", "au")
"""Kinds of files that libsndfile reads."""

_BLOCK_NUMBERS = 2**15
_UNKNOWN_LENGTH = 2**62
"""libsndfile says more than this for a stream of unknown length."""


class _Bytes(io.BytesIO):
    """Bytes for libsndfile, which seeks to places that damaged headers name; before the beginning there is none."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a byte; to none that is not there."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def by_libsndfile(data: bytes) -> Iterator[Block]:
    """The blocks of a file; raises DataError if it is damaged or has fewer samples than it claims."""
    soundfile = load_package("soundfile", CLIP)
    with refusing(CLIP), soundfile.SoundFile(_Bytes(data)) as file:
        rows, found = max(1, _BLOCK_NUMBERS // file.channels), 0
        while len(block := file.read(rows, dtype="float32", always_2d=True)):
            found += len(block)
            yield file.samplerate, mix(block)
        if found < file.frames < _UNKNOWN_LENGTH:
            raise DataError(
                f"the clip is damaged: {found} of the {file.frames} samples that it claims can be decoded; replace or "
                "remove it."
            )


def by_ffmpeg(data: bytes) -> Iterator[Block]:
    """The blocks of the first stream of sound.

    A file may begin or end within a packet, and what is whole is decoded; raises DataError for damage between.
    """
    with opened(data, CLIP) as container:
        if not container.streams.audio:
            raise DataError("the clip has no stream of sound; remove it.")
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        is_begun, damage = False, None
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except Exception as error:  # Whatever it is, only what follows tells an early end from damage.
                damage = error if is_begun else None
                continue
            for frame in frames:
                if damage is not None:
                    raise damage
                is_begun = True
                values = frame.to_ndarray()
                rows = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
                yield frame.sample_rate, mix(_scaled(rows))


def _scaled(values: NDArray[Any]) -> Floats:
    """Values of any type as float32, full scale 1."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.kind == "u":
        return (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    return values.astype(np.float32) / np.float32(2 ** (8 * values.dtype.itemsize - 1))
