"""Times of a video's frames as text before them, where a model's processor writes them.

Qwen3-VL's processor writes, in the place of a video, for every two frames the middle of their times and then the two
between the tokens that begin and end an image: `<0.3 seconds><|vision_start|>` frames `<|vision_end|>`.
"""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from counterpoint.data.text.chat import LaidChat, Medium
from counterpoint.data.text.tokenizer import Tokenizer

Timestamps = Literal["none", "qwen3-vl"]

_MERGED = 2
"""Frames that Qwen3-VL's tower merges."""

_BEGIN, _END = "<|vision_start|>", "<|vision_end|>"
_FILES = tuple(f"{name}_config.json" for name in ("processor", "video_preprocessor", "preprocessor", "tokenizer"))
_CLASSES = ("Qwen3VLProcessor", "Qwen3VLVideoProcessor")


def timestamps_of(folder: Path | None) -> Timestamps:
    """What the processor in a tokenizer's folder writes; none without a folder, or one that says it."""
    for name in _FILES if folder is not None and folder.is_dir() else ():
        assert folder is not None, "it was just asked"
        try:
            values = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # What of it is needed is refused where it is read.
        given = values if isinstance(values, dict) else {}
        if any(given.get(key) in _CLASSES for key in ("processor_class", "video_processor_type")):
            return "qwen3-vl"
    return "none"


def write_timestamps(laid: LaidChat, tokenizer: Tokenizer) -> LaidChat:
    """A conversation in which every two frames of a video stand after their time; none of what is added is a target.

    The tokens that begin and end an image are written where the tokenizer has them; a pair that stands around the whole
    video is taken away, as by the processor.
    """
    begin, end = ([] if found is None else [found] for found in map(tokenizer.backend.token_to_id, (_BEGIN, _END)))
    tokens: list[int] = []
    loss: list[bool] = []
    media: list[tuple[int, Medium]] = []
    moved = {}
    """By the number of tokens before a place, that number after."""
    at = 0
    ended: int | None = None

    def take(stop: int) -> None:
        nonlocal at
        for place in range(at, stop):
            moved[place] = len(tokens)
            if place != ended:
                tokens.append(laid.tokens[place])
                loss.append(laid.loss[place])
        at = stop

    for position, medium in laid.media:
        take(position)
        if not medium.times:
            media.append((len(tokens), medium))
            continue
        if begin and tokens[-1:] == begin and list(laid.tokens[position : position + 1]) == end:
            del tokens[-1], loss[-1]
            ended = position
        for first in range(0, len(medium.picks), _MERGED):
            part = slice(first, first + _MERGED)
            text = tokenizer.encode(f"<{_middle(medium.times[part]):.1f} seconds>")
            tokens += [*text, *begin]
            picks, times, whole = medium.picks[part], medium.times[part], len(medium.picks)
            media.append((len(tokens), replace(medium, picks=picks, times=times, whole=whole)))
            tokens += end
            loss += [False] * (len(tokens) - len(loss))
    take(len(laid.tokens))
    moved[len(laid.tokens)] = len(tokens)
    answers = tuple(moved[answer] for answer in laid.answers)
    return replace(laid, tokens=tuple(tokens), loss=tuple(loss), media=tuple(media), answers=answers)


def _middle(times: tuple[Fraction, ...]) -> float:
    return float((times[0] + times[-1]) / 2)
