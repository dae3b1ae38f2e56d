"""Texts with images between them, as web pages have them: OBELICS and MMC4. Everything is learned, as one answer.

{"images": [URL, null], "texts": [null, "A cat."]}
{"text_list": ["A cat.", "It sleeps."], "image_info": [{"image_name": "a.png", "matched_text_index": 0}]}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from counterpoint.data.prepare.shapes.media import Known, named
from counterpoint.data.prepare.shapes.shape import NULL, TEXT, Columns, Find, Parsed, Shape, element, is_list
from counterpoint.data.text.chat import ASSISTANT, Message, Part
from counterpoint.data.text.shown import show
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError

_IMAGE = "image"
IMAGE_PLACE = "image_place"
_BEFORE, _BEHIND = "before", "behind"


def _fits_page(columns: Columns) -> bool:
    texts = columns.get("texts", "")
    return "images" in columns and is_list(texts) and element(texts) in (TEXT, NULL)


def _parse_page(values: object, find: Find) -> Parsed:
    row: Mapping[str, Any] = values if isinstance(values, dict) else {}
    images, texts = _list(row, "images"), _list(row, "texts")
    if len(images) != len(texts):
        raise DataError(
            f"it has {len(images)} entries at 'images' and {len(texts)} at 'texts', expected as many, one of the two "
            "null at each place; correct the row."
        )
    parts: list[Part] = []
    known = Known.of(find)
    for place, (image, text) in enumerate(zip(images, texts, strict=True)):
        if (image is None) == (text is None):
            raise DataError(
                f"place {place} of 'images' and 'texts' holds {show(image)} and {show(text)}, expected null in exactly "
                "one of them; correct the row."
            )
        parts += [_text(text)] if text is not None else named(image, _IMAGE, known, "images")
    return _page(parts)


def _fits_sentences(columns: Columns) -> bool:
    return "text_list" in columns and "image_info" in columns


def _parse_sentences(values: object, find: Find) -> Parsed:
    row: Mapping[str, Any] = values if isinstance(values, dict) else {}
    texts, infos = [_text(text) for text in _list(row, "text_list")], _list(row, "image_info")
    place = row.get(IMAGE_PLACE, _BEFORE)
    if place not in (_BEFORE, _BEHIND):
        raise DataError(f"expected '{IMAGE_PLACE}' to be {_BEFORE} or {_BEHIND}, got {show(place)}.")
    known = Known.of(find)
    images: dict[int, list[Part]] = {}
    for info in infos:
        name, at = (info.get("image_name"), info.get("matched_text_index")) if isinstance(info, dict) else (None, None)
        if name is None or not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < len(texts):
            raise DataError(
                "expected 'image_info' to hold {'image_name': file name, 'matched_text_index': number of one of the "
                f"{len(texts)} texts}}, got {show(info)}."
            )
        images.setdefault(at, []).extend(named(name, _IMAGE, known, "image_name"))
    parts: list[Part] = []
    for at, text in enumerate(texts):
        own = images.get(at, [])
        # Sentences were split at spaces.
        said = text if at == 0 else f" {text}"
        parts += [*own, said] if place == _BEFORE else [said, *own]
    return _page(parts)


def _page(parts: Sequence[Part]) -> Parsed:
    if not any(isinstance(part, str) and part for part in parts):
        raise DataError("it holds no text, expected at least one; remove the row.")
    return Parsed((Message(ASSISTANT, tuple(parts)),))


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    values = row.get(key)
    if not isinstance(values, list):
        raise DataError(f"expected '{key}' to be a list, got {show(values)}.")
    return values


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise DataError(f"expected a text, got {show(text)}.")
    check_text(text)
    return text


PAGE = Shape(
    keys=("images", "texts"),
    fits=_fits_page,
    parse=_parse_page,
    described="'images' and 'texts' of equal length, one of them null at each place",
)
SENTENCES = Shape(
    keys=("text_list", "image_info", IMAGE_PLACE),
    fits=_fits_sentences,
    parse=_parse_sentences,
    described="'text_list' and 'image_info'",
)
