"""Video files: when each of their frames is shown, and the frames that are shown at chosen times.

A frame is named by its `stamp`, the time at which it is shown in the units of its file, so that it can be sought
without reading what lies before. Where a file does not say these times, or not one time for each frame (AVI), it is
named by -1 - number, and found by counting from the beginning.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, final

import numpy as np

from counterpoint.errors import DataError
from counterpoint.modalities.containers import VIDEO, opened, refusing
from counterpoint.modalities.images.spec import MOST_PIXELS

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

_MOST_FRAMES = 2**22
_OPEN = 4
"""Videos that a thread keeps open."""

_NUMBERED = ("avi",)
"""Kinds of files that do not say when a frame is shown."""

_SOUGHT = ("mov", "matroska")
"""Kinds of files that have an index of their key frames; others are decoded from the beginning."""

_BACK_SECONDS = (0, 1, 10)
"""How long before a frame its key frame is sought."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of a video: `stamps` ascending by time, each frame's time in `seconds` from the first one, and the
    size of a frame as displayed."""

    stamps: tuple[int, ...]
    seconds: tuple[Fraction, ...]
    height: int
    width: int


def video_timeline(file: bytes | BinaryIO, most_pixels: int = MOST_PIXELS) -> Timeline:
    """The frames of a video; its packets are read and the first frame is decoded.

    Raises DataError for a file without frames, one that cannot be decoded, or frames of more than `most_pixels`.
    """
    with opened(file, VIDEO) as container:
        stream = _stream(container, most_pixels)
        found: list[int | None] = []
        first = None
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                found.append(packet.pts)
            if len(found) > _MOST_FRAMES:
                raise DataError(f"the video has more than {_MOST_FRAMES} frames; cut it into shorter ones.")
            if first is None:
                first = next(iter(packet.decode()), None)
        if first is None or not found:
            raise DataError("the video has no frame that can be decoded; remove it.")
        height, width = _turned_size(first)
        stamps = sorted(stamp for stamp in found if stamp is not None)
        is_stamped = container.format.name not in _NUMBERED and len(set(stamps)) == len(found) and stamps[0] >= 0
        unit = stream.time_base or Fraction(1)
        if is_stamped:
            seconds = [(stamp - stamps[0]) * unit for stamp in stamps]
            return Timeline(tuple(stamps), tuple(seconds), height, width)
        rate = stream.average_rate or stream.guessed_rate or 1 / unit
        numbers = range(len(found))
        return Timeline(tuple(-1 - number for number in numbers), tuple(n / rate for n in numbers), height, width)


@final
class VideoReader:
    """Reads frames of videos; each thread keeps the last few of them open, so that a video whose frames are read one
    after another is decoded once.

    It can be pickled; what is open is not.
    """

    def __init__(self, most_pixels: int = MOST_PIXELS) -> None:
        self._most_pixels = most_pixels
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["VideoReader"], tuple[int]]:
        return VideoReader, (self._most_pixels,)

    def read(self, place: Hashable, opens: Callable[[], bytes | BinaryIO], stamps: Sequence[int]) -> list[bytes]:
        """The frames of a video that are shown at some stamps, upright, as PPM files; raises DataError.

        `opens` opens the video unless this thread has the one at this `place` open.
        """
        videos: OrderedDict[Hashable, _OpenVideo] = self._local.__dict__.setdefault("videos", OrderedDict())
        video = videos.pop(place, None) or _OpenVideo(opens(), self._most_pixels)
        try:
            pictures = [video.picture(stamp) for stamp in stamps]
        except BaseException:
            video.close()
            raise
        videos[place] = video
        while len(videos) > _OPEN:
            videos.popitem(last=False)[1].close()
        return pictures


def read_frames(file: bytes | BinaryIO, stamps: Sequence[int], most_pixels: int = MOST_PIXELS) -> list[bytes]:
    """The frames of one video that are shown at some stamps, upright, as PPM files; closes it. Raises DataError."""
    video = _OpenVideo(file, most_pixels)
    try:
        return [video.picture(stamp) for stamp in stamps]
    finally:
        video.close()


class _OpenVideo:
    """A video that is being decoded: `_frame` is the last frame, and `_next` the one after it where that was decoded to
    know that `_frame` was still shown."""

    def __init__(self, file: bytes | BinaryIO, most_pixels: int) -> None:
        self._file, self._most_pixels = file, most_pixels
        self._stack = ExitStack()
        self._frames: Iterator[VideoFrame] = iter(())
        self._frame: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._count = 0
        self._rewind()

    def close(self) -> None:
        """Close the file."""
        with refusing(VIDEO):
            self._stack.close()
        if not isinstance(self._file, bytes):
            self._file.close()

    def picture(self, stamp: int) -> bytes:
        """The frame that is shown at a stamp, as a PPM file."""
        with refusing(VIDEO):
            frame = self._numbered(-1 - stamp) if stamp < 0 else self._shown_at(stamp)
            pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame)))
            return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()

    def _numbered(self, number: int) -> "VideoFrame":
        if number < self._count - 1:
            self._rewind()
        while self._count <= number:
            if not self._advance():
                raise DataError(f"the video ends before its frame {number}, which the index has; prepare it again.")
        assert self._frame is not None, "a frame was counted"
        return self._frame

    def _shown_at(self, stamp: int) -> "VideoFrame":
        if self._frame is None or stamp < _stamp(self._frame) or self._has_key_frame_before(stamp):
            self._seek(stamp)
        assert self._frame is not None, "a frame at or before the stamp was sought"
        while _stamp(self._frame) != stamp:
            self._next = self._next or next(self._frames, None)
            if self._next is None or _stamp(self._next) > stamp:
                break
            self._advance()
        return self._frame

    def _has_key_frame_before(self, stamp: int) -> bool:
        """Whether the file says that decoding may begin between the last frame and this one."""
        assert self._frame is not None, "asked only after a frame"
        if not self._container.format.name.startswith(_SOUGHT):
            return False
        at = self._stream.index_entries.search_timestamp(stamp, backward=True, any_frame=False)
        return at >= 0 and self._stream.index_entries[at].timestamp > _stamp(self._frame)

    def _seek(self, stamp: int) -> None:
        """Decode the last key frame that is known to be shown at or before a stamp."""
        unit = self._stream.time_base or Fraction(1)
        for seconds in _BACK_SECONDS if self._container.format.name.startswith(_SOUGHT) else ():
            target = stamp - int(seconds / unit)
            if target < 0:
                break
            try:
                self._container.seek(target, stream=self._stream, backward=True)
                self._restart()
                is_found = self._advance()
            except Exception:  # Whatever it is, the file can be decoded from its beginning.
                break
            if is_found and self._frame is not None and self._frame.key_frame and _stamp(self._frame) <= stamp:
                return
        self._rewind()
        if not self._advance():
            raise DataError("the video has no frame that can be decoded; remove it.")

    def _advance(self) -> bool:
        """Go on to the next frame; False at the end."""
        frame = self._next or next(self._frames, None)
        self._next = None
        if frame is None:
            return False
        self._frame, self._count = frame, self._count + 1
        return True

    def _rewind(self) -> None:
        self._stack.close()
        if not isinstance(self._file, bytes):
            self._file.seek(0)
        self._container = self._stack.enter_context(opened(self._file, VIDEO))
        self._stream = _stream(self._container, self._most_pixels)
        self._restart()

    def _restart(self) -> None:
        self._frames = self._container.decode(self._stream)
        self._frame = self._next = None
        self._count = 0


def _stream(container: "InputContainer", most_pixels: int) -> "VideoStream":
    """The first stream of moving pictures, decoded by one thread, so that workers do not compete for cores."""
    shown = (one for one in container.streams.video if not one.disposition & one.disposition.attached_pic)
    stream = next(shown, None)
    if stream is None:
        raise DataError("the video has no stream of pictures; remove it.")
    context = stream.codec_context
    if context is None:
        raise DataError("the video is of a code that is not known; convert it.")
    _check_pixels(context.height, context.width, most_pixels)
    context.options = {"max_pixels": str(most_pixels)}
    context.thread_count = 1
    return stream


def _check_pixels(height: int, width: int, most: int) -> None:
    if height * width > most:
        raise DataError(
            f"the video has frames of {height}x{width} pixels, more than the {most} that are decoded; scale it down, "
            "or raise the limit (prepare --max-pixels, and max_pixels of the module's section image)."
        )


def _stamp(frame: "VideoFrame") -> int:
    if frame.pts is None:
        raise DataError("the video has a frame without a time; convert it to MP4.")
    return frame.pts


def _quarter_turns(frame: "VideoFrame") -> int:
    """How many quarters to turn a frame counter-clockwise; angles between them are ignored."""
    return round(frame.rotation / 90) % 4 if frame.rotation % 90 == 0 else 0


def _turned_size(frame: "VideoFrame") -> tuple[int, int]:
    size = frame.height, frame.width
    return size[::-1] if _quarter_turns(frame) % 2 else size
