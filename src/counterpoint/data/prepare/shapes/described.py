"""One file, or some, with a text: captions of images and videos, transcripts and labels of sound.

    {"image": IMAGE, "caption": "A cat."}
    {"audio": AUDIO, "text": "HELLO"}
    {"audio": AUDIO, "labels": ["/m/09x0r"], "human_labels": ["Speech"]}

The file is the user's turn, and the text the answer to it. Names of labels are joined by commas.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from counterpoint.data.prepare.shapes.shape import Columns, Find, Parsed, Shape
from counterpoint.data.prepare.shapes.turns import parse_record
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError

_SOUND = ("audio", "audios")
_SIGHT = ("image", "images", "video", "videos")
_TEXTS = ("text", "caption")
_LABELS = ("human_labels", "labels")
_SOUND_TEXTS = ("text", "transcript", "transcription", "sentence", "caption", *_LABELS)


def _fits(files: Sequence[str], texts: Sequence[str]) -> Callable[[Columns], bool]:
    return lambda columns: any(key in columns for key in files) and any(key in columns for key in texts)


def _parse(files: Sequence[str], texts: Sequence[str]) -> Callable[[object, Find], Parsed]:
    def parse(values: object, find: Find) -> Parsed:
        row: Mapping[str, Any] = values if isinstance(values, dict) else {}
        media = {key: row[key] for key in files if row.get(key) not in (None, [])}
        if len(media) != 1:
            raise DataError(
                f"it has {' and '.join(map(repr, media)) or 'none'} of {', '.join(files)}, expected exactly one of "
                "them that is not null; correct or remove the row."
            )
        (key, held), *_ = media.items()
        single = key.removesuffix("s")
        parts = [{"type": single, single: one} for one in (held if isinstance(held, list) else [held])]
        messages = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": [{"type": "text", "text": _text(row, texts)}]},
        ]
        return parse_record({"messages": messages}, find)

    return parse


def _text(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The first text that a row has at some keys."""
    key = next((key for key in keys if row.get(key) is not None), None)
    value = None if key is None else row[key]
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        if key not in _LABELS and len(value) > 1:
            raise DataError(
                f"it has {len(value)} texts at '{key}', expected one; write a record for each, or join them with "
                f"--map {key}={{{key}}}."
            )
        return ", ".join(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"expected a text at one of {', '.join(keys)}, got {show(value)}.")
    return value


def _shape(files: Sequence[str], texts: Sequence[str], described: str) -> Shape:
    return Shape(
        keys=(*files, *texts),
        fits=_fits(files, texts),
        parse=_parse(files, texts),
        described=described,
        options=tuple((text,) for text in texts),
    )


SOUND = _shape(_SOUND, _SOUND_TEXTS, "'audio' with 'text' or 'labels'")
CAPTIONS = _shape(_SIGHT, _TEXTS, "'image' or 'video' with 'text' or 'caption'")
