"""Which frames of a video are seen: evenly spaced in time, so many a second and no more than a maximum."""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from counterpoint.errors import DataError
from counterpoint.modalities.images.video_file import Timeline

DEFAULT_FPS, DEFAULT_FRAMES = 2.0, 768
FEWEST = 4
"""Frames of a short video, if it has so many."""


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """`fps` frames a second, at most `most` of a video; raises DataError if one is not positive."""

    fps: float = DEFAULT_FPS
    most: int = DEFAULT_FRAMES

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000 or self.most < 1:
            raise DataError(
                f"--fps {self.fps}, --max-frames {self.most}: expected more than 0 and up to 1000 frames a second, and "
                "at least 1 frame."
            )

    def choose(self, timeline: Timeline) -> tuple[int, ...]:
        """The numbers of the frames, ascending: the first, the last, and those nearest to evenly spaced times between.

        An even number of them where there are two or more, since towers of videos merge pairs.
        """
        count = self._count(timeline)
        if count == 1:
            return (0,)
        last = timeline.seconds[-1]
        return tuple(_nearest(timeline.seconds, last * step / (count - 1)) for step in range(count))

    def _count(self, timeline: Timeline) -> int:
        frames = len(timeline.seconds)
        if frames == 1:
            return 1
        # The last frame is shown as long as the others are on average.
        length = timeline.seconds[-1] * frames / (frames - 1)
        count = min(max(int(length * Fraction(self.fps)), FEWEST), self.most, frames)
        return max(count - count % 2, 1)


def _nearest(times: tuple[Fraction, ...], time: Fraction) -> int:
    """The number of the time nearest to one; of two that are as near, the even one."""
    after = bisect_right(times, time)
    if after == len(times):
        return after - 1
    left, right = time - times[after - 1], times[after] - time
    if left == right:
        return after - after % 2 if after else after
    return after - 1 if left < right else after
