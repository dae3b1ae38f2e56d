"""The options of `prepare`."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.prepare.mapping import ColumnMap
from counterpoint.data.prepare.reading import Reading
from counterpoint.data.prepare.where import Where
from counterpoint.data.text.timestamps import Timestamps, timestamps_of
from counterpoint.errors import DataError
from counterpoint.modalities.images.frame_choice import DEFAULT_FPS, DEFAULT_FRAMES, FrameChoice
from counterpoint.modalities.images.spec import MOST_PIXELS

DEFAULT_VOCABULARY = 4096
DEFAULT_MISSING = 0.1

FAIL, SKIP = "fail", "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How a source becomes an index.

    Text is split by `tokenizer`, or by byte-level BPE trained on the split `train` (on everything if there is none): of
    `vocabulary` ids for conversations. `seed` chooses what `emoji` holds out. Files of records lie in the folder of
    the source or in those of `images`; a picture of more than `most_pixels` is refused. `addresses` is the rule by
    which fetched files are called. Only rows for which `where` holds are taken, `maps` say which column is which key,
    and `subsets` are folders of the source.

    Of a video file `fps` frames a second are seen, at most `max_frames`, evenly spaced in time;
    `timestamps` says whose times are written before them (None: those of the processor in the tokenizer's folder).

    A bad sample ends the preparation or, with `on_error` "skip", is left out and counted. Samples whose files are
    missing are left out up to a share of `most_missing` (None: 0, or 0.1 with "skip"). With `copy` all payload is
    copied into the index, which otherwise refers to it where it lies. `workers` processes share the work (None: one for
    each usable core, but one for a small source); nothing depends on their number. A script that asks for several
    needs the guard `if __name__ == "__main__":`, since they are spawned.

    `tokenizer` is a file, or a folder, whose chat template lays out conversations unless `chat` is `plain`; the
    template's `date` is a day. `train_on` says which tokens are targets.
    """

    tokenizer: Path | None = None
    vocabulary: int = DEFAULT_VOCABULARY
    seed: int = 0
    images: tuple[Path, ...] = ()
    most_pixels: int = MOST_PIXELS
    addresses: str | None = None
    where: str | None = None
    maps: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    on_error: str = FAIL
    most_missing: float | None = None
    copy: bool = False
    workers: int | None = 1
    fps: float = DEFAULT_FPS
    max_frames: int = DEFAULT_FRAMES
    timestamps: Timestamps | None = None
    chat: str | None = None
    train_on: str = "assistant"
    date: str | None = None

    def __post_init__(self) -> None:
        if self.on_error not in (FAIL, SKIP):
            raise DataError(f"--on-error: got '{self.on_error}', expected fail or skip.")
        if self.most_missing is not None and not 0 <= self.most_missing <= 1:
            raise DataError(f"--most-missing: got {self.most_missing}, expected a share from 0 to 1.")
        if self.workers is not None and self.workers < 1:
            raise DataError(f"--workers: got {self.workers}, expected at least 1.")
        _ = self.frames

    @property
    def has_timestamps(self) -> bool:
        """Whether times are written before the frames of a video file."""
        return (timestamps_of(self.tokenizer) if self.timestamps is None else self.timestamps) != "none"

    @property
    def frames(self) -> FrameChoice:
        """Which frames of a video file are seen; raises DataError."""
        return FrameChoice(self.fps, self.max_frames)

    @property
    def missing_share(self) -> float:
        """The largest share of samples that may be left out because their files are missing."""
        if self.most_missing is not None:
            return self.most_missing
        return DEFAULT_MISSING if self.on_error == SKIP else 0.0

    @property
    def reading(self) -> Reading:
        """How rows are chosen and mapped; raises DataError for a bad condition or mapping."""
        return Reading(None if self.where is None else Where(self.where), ColumnMap.of(self.maps))
