"""What families whose rows are windows of frames of clips have in common."""

from collections.abc import Iterator
from typing import Protocol

from counterpoint.modalities.clips.spec import FRAMES_A_SECOND, AudioConfig, ClipIntake
from counterpoint.section.problem import Problem


class ReadsClips(Protocol):
    """A section of a tower whose row reads `window` frames of `mels` bands around every `stride`-th, of which a clip
    has at most `positions`; `stack` rows leave as one, or `queries` learned ones of every clip."""

    @property
    def audio(self) -> AudioConfig: ...
    @property
    def mels(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def stack(self) -> int: ...
    @property
    def positions(self) -> int: ...
    @property
    def queries(self) -> int: ...


def clip_intake(module: str, section: ReadsClips, mark: str, *, normalised: bool = False) -> ClipIntake:
    """How clips enter a module of this section, `normalised` if its frames are NeMo's."""
    return ClipIntake(
        module,
        section.mels,
        section.window,
        section.stride,
        section.stack,
        section.positions,
        seconds=section.audio.whole_seconds,
        mark=mark,
        normalised=normalised,
        queries=section.queries,
    )


def clip_problems(where: str, section: ReadsClips, most_mels: int) -> Iterator[Problem]:
    """Frames or lengths of clips that a model at `where` cannot take; `most_mels` bands each have a frequency."""
    if section.mels > most_mels:
        expected = f"at most {most_mels}, because narrower bands lie between the frequencies of a frame"
        yield Problem(f"{where}.mels", f"{section.mels}", expected, "lower it")
    seconds, stack = section.audio.seconds, section.stack
    if not isinstance(seconds, int):
        return
    rows, most = -(-seconds * FRAMES_A_SECOND // section.stride), section.positions // stack * stack
    if rows > most:
        expected = f"at most {most} rows, the positions of {where} in whole stacks"
        yield Problem(f"{where}.audio.seconds", f"{seconds}, {rows} rows", expected, "lower it or raise positions")
