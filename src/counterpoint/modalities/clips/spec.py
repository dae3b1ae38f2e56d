"""Clips: the number of rows that a clip becomes in a module, from its length alone, and the modality itself."""

from dataclasses import dataclass
from random import Random
from typing import Any, Literal, final

from counterpoint.kinds.modality import (
    Drawing,
    Extent,
    Form,
    ItemSection,
    Modality,
    PartForm,
    Placed,
    Scalar,
    Small,
)
from counterpoint.section.section import Count, Section

FRAMES_A_SECOND = 100
"""Frames of log-mel bands that a clip has for each second."""

RATE = 16_000
"""Samples a second."""

HOP = RATE // FRAMES_A_SECOND
"""Samples from one frame to the next."""

_OWN = "own"
_FEWEST_NORMALISED = 2


class AudioConfig(Section):
    """How a clip becomes frames."""

    seconds: Count | Literal["own"] | None = None
    """Length that clips are cut or filled up with silence to; `own`: each keeps its own; null: what the folder in
    `init_from` says, else `own`. The silence counts as part of the clip where bands are normalised. Unit: seconds."""

    @property
    def whole_seconds(self) -> int | None:
        """The length of every clip, None for each clip's own."""
        return self.seconds if isinstance(self.seconds, int) else None


@final
@dataclass(frozen=True, slots=True)
class ClipIntake:
    """How clips enter a module: a row reads `window` frames of `mels` bands around every `stride`-th, and `stack` rows
    leave as one.

    With `seconds` every clip is cut or padded with silence to that length, else padded to whole stacks only. A clip has
    at most `positions` rows; `seconds` are known to be no more. `mark` stood for a clip in the text that was prepared.
    With `normalised` frames are NeMo's, and a clip is not padded: its last rows may lack frames. With `queries` that
    many learned rows leave for a clip.
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
    queries: int = 0

    @property
    def kind(self) -> str:
        """The kind of item that the module takes."""
        return CLIPS.name

    @property
    def row_multiple(self) -> int:
        """Rows that leave as one."""
        return self.stack

    @property
    def prefix(self) -> int:
        """Rows of the module's own before a clip: none."""
        return 0

    @property
    def most_samples(self) -> int:
        """The number of samples of the longest clip that the module takes without cutting."""
        return self.positions // self.stack * self._unit

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        """The settings by which a file becomes frames, by the keys of the section `audio`."""
        return {"seconds": _OWN if self.seconds is None else self.seconds}

    def fits(self, extent: Extent) -> bool:
        """Whether the module takes a clip of `extent`, (samples,)."""
        (samples,) = extent
        return self._rows(samples) <= self.positions

    def place(self, extent: Extent) -> Placed:
        """The rows of a clip of `extent`, (samples,); they follow one another in time, like text."""
        (samples,) = extent
        rows = self._rows(samples)
        return Placed(self.module, rows, self.queries or rows // self.stack, columns=None)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which files of an entry of the index make each item: a clip is one file."""
        return (slice(0, files),)

    def drawn(self, sizes: tuple[int, ...]) -> Extent:
        """The size of a synthetic clip: the drawn milliseconds, at most what the module takes without cutting."""
        (milliseconds,) = sizes
        return (min(milliseconds * RATE // 1000, self.most_samples),)

    def whole_samples(self, samples: int) -> int:
        """Number of samples of a clip after cutting or padding: whole stacks, or whole frames, at least two to
        normalise."""
        if self.seconds is not None:
            samples = self.seconds * RATE
        if self.normalised:
            return max(samples // HOP, _FEWEST_NORMALISED) * HOP
        return -(-samples // self._unit) * self._unit

    @property
    def _unit(self) -> int:
        """Number of samples of one output row."""
        return HOP * self.stride * self.stack

    def _rows(self, samples: int) -> int:
        return -(-self.whole_samples(samples) // (HOP * self.stride))


def _small(generator: Random, _small: Small) -> dict[str, Any]:
    return {
        "audio_per_document": {"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2])},
        "audio_milliseconds": {"kind": "uniform", "low": 1, "high": generator.choice([100, 250])},
        "without_audio": generator.choice([0.0, 0.0, 0.3, 0.7, 1.0]),
    }


CLIPS = Modality(
    name="audio",
    plural="clips",
    read_by="an audio module",
    columns=("samples",),
    counts=("clips",),
    forms=(Form(key="audio", mark="<audio>", name="clip", file="clip", plural="audios"),),
    parts=(PartForm(type="input_audio", field="data", key="audio", is_inline=True),),
    drawing=Drawing(
        number="audio_per_document",
        without="without_audio",
        sizes={"audio_milliseconds": 1000},
        stream=2**32 + 1,
        module_stream=2**32 + 2,
        small=_small,
        described={"audio_milliseconds": "Length of a clip, at most what its module takes. Unit: milliseconds."},
    ),
    section=ItemSection(
        key="audio",
        section=AudioConfig,
        defaults={"seconds": _OWN},
        origin="counterpoint.convert.processor:said_of_clips",
        free=("seconds",),
    ),
    size="counterpoint.modalities.clips.clip_file:clip_extent",
    rows="counterpoint.modalities.clips.rows:ClipRows",
    alone="counterpoint.modalities.clips.alone:clip_alone",
    preview="counterpoint.modalities.clips.preview:ClipPreview",
)
