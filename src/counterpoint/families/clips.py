"""What the families of audio encoders share."""

from collections.abc import Iterator
from typing import Protocol

from counterpoint.modalities.clips.spec import FRAMES_A_SECOND, AudioConfig, ClipIntake
from counterpoint.section.problem import Problem


class ReadsClips(Protocol):
    """The section of an audio encoder.

    Each row reads a window of `window` frames of `mels` bands; windows are `stride` frames apart. A clip has at most
    `positions` rows. `stack` consecutive rows become one output row, unless `queries` learned rows replace all of them.
    """

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
    """The intake of a module with this section; `normalised` selects NeMo's normalised frames."""
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
    """Problems of the frames or lengths of clips; beyond `most_mels`, some bands would contain no frequency."""
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
