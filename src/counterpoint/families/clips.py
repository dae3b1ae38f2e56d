"""What families whose rows are windows of frames of clips have in common."""

from collections.abc import Iterator

from counterpoint.modalities.clips.spec import FRAMES_A_SECOND, AudioConfig
from counterpoint.section.problem import Problem


def clip_problems(
    where: str, audio: AudioConfig, mels: int, most_mels: int, stride: int, positions: int, stack: int
) -> Iterator[Problem]:
    """Frames or lengths of clips that a model at `where` cannot take."""
    if mels > most_mels:
        expected = f"at most {most_mels}, because narrower bands lie between the frequencies of a frame"
        yield Problem(f"{where}.mels", f"{mels}", expected, "lower it")
    seconds = audio.seconds
    if not isinstance(seconds, int):
        return
    rows, most = -(-seconds * FRAMES_A_SECOND // stride), positions // stack * stack
    if rows > most:
        expected = f"at most {most} rows, the positions of {where} in whole stacks"
        yield Problem(f"{where}.audio.seconds", f"{seconds}, {rows} rows", expected, "lower it or raise positions")
