"""The files that a value of a record names or holds, as items of the kinds that are registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, final

from counterpoint.data.prepare.inline import decode_base64
from counterpoint.data.prepare.shapes.shape import Find
from counterpoint.data.text.chat import File, Medium
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Form, PartForm
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.stored import Stored

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ts", ".3gp")

_Given = str | Path | Stored | bytes


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What a record may hold besides text, from the registered modalities: forms and their kinds by key, forms of parts
    by type, keys by their plurals; and `find`, which looks up the files that it names."""

    find: Find
    forms: Mapping[str, Form]
    kinds: Mapping[str, str]
    parts: Mapping[str, PartForm]
    plurals: Mapping[str, str]

    @classmethod
    def of(cls, find: Find) -> "Known":
        """Everything that is registered."""
        forms = {form.key: form for modality in MODALITIES.values() for form in modality.forms}
        return cls(
            find,
            forms,
            # In the index the pictures of a video are one item of kind image.
            {form.key: kind for kind, modality in MODALITIES.items() for form in modality.forms},
            {part.type: part for modality in MODALITIES.values() for part in modality.parts},
            {form.plural: key for key, form in forms.items() if form.plural is not None},
        )


def named(given: object, key: str, known: Known, called: str = "") -> list[Medium]:
    """The media of a value, each a file, or the pictures of a video; raises DataError for anything else."""
    form, called = known.forms[key], called or key
    values = [given] if _is_file(given) else given
    if form.is_list and _are_files(values) and (_is_file(given) or _are_videos(values)):
        return [_video(value, key, known) for value in values]
    if form.is_list:
        expected = "a video file, a list of the file names of its pictures, or a list of such lists"
        items = [values] if _are_files(values) and values else values
    else:
        expected = "a file name or a list of them"
        items = [[value] for value in values] if isinstance(values, list) else values
    if not isinstance(items, list):
        raise DataError(f"expected '{called}' to be {expected}, got {show(given)}.")
    media = []
    for files in items:
        if not _are_files(files) or not files:
            raise DataError(f"expected '{called}' to be {expected}, got {show(given)}.")
        media.append(Medium(known.kinds[key], tuple(_file(file, form.file, known) for file in files)))
    return media


def decode_inline(content: object, part: PartForm, known: Known) -> Medium:
    """The item of a part that holds its content in base64; raises DataError."""
    if not isinstance(content, str):
        raise DataError(f"expected '{part.field}' of an '{part.type}' to be base64, got {show(content)}.")
    return Medium(known.kinds[part.key], (decode_base64(content, known.forms[part.key].file),))


def _video(value: _Given, key: str, known: Known) -> Medium:
    return Medium(known.kinds[key], (_file(value, known.forms[key].name, known),), is_video=True)


def _file(value: _Given, what: str, known: Known) -> File:
    return known.find(value, what) if isinstance(value, str) else value


def _is_file(value: object) -> TypeGuard[_Given]:
    return isinstance(value, str | Path | Stored | bytes)


def _are_files(values: object) -> TypeGuard[list[_Given]]:
    return isinstance(values, list) and all(_is_file(value) for value in values)


def _are_videos(values: list[_Given]) -> bool:
    """Whether all of some files are video files by their names."""
    names = [value.name if isinstance(value, Stored | Path) else value for value in values]
    return bool(names) and all(isinstance(name, str) and name.lower().endswith(VIDEO_SUFFIXES) for name in names)
