"""The schema as dotted keys: all of them, and the place that a validation error points to."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from counterpoint.config.schema import Config
from counterpoint.section.of_kind import AsRegistered, OfKey, OfKind
from counterpoint.section.section import Section

WILDCARD = "*"
"""Stands for a module's name or the index of an entry."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a configuration; for an unknown key, `siblings` are the keys that its section has."""

    path: str
    name: str
    field: FieldInfo | None
    siblings: tuple[str, ...]


def known_keys() -> frozenset[str]:
    """Every dotted key of the schema and of the sections that are registered by now, `*` for names and indices
    (`modules.*.train`)."""
    return frozenset(_keys_below(Config, ""))


def is_known(key: str, known: Set[str]) -> bool:
    """Whether a dotted key is in the schema; names and indices stand for themselves or as `*`."""
    parts = key.split(".")
    return any(
        len(pattern) == len(parts) and all(p in (WILDCARD, part) for p, part in zip(pattern, parts, strict=True))
        for pattern in (k.split(".") for k in known)
    )


def locate(location: Sequence[str | int], is_unknown: bool = False) -> Place:
    """The place of pydantic's error location, from which the tags of unions are dropped.

    With `is_unknown` the last part is a key that no section has.
    """
    sections: tuple[type[Section], ...] = (Config,)
    path: list[str] = []
    field: FieldInfo | None = None
    is_entry = False
    for part in location[:-1] if is_unknown else location:
        holders = [section for section in sections if part in _fields(section)]
        if is_entry:
            path.append(_printable(part))
            is_entry, field = False, None
        elif holders:
            field = _fields(holders[0])[str(part)]
            path.append(_printable(part))
            sections, is_entry = sections_of(field), _has_entries(field.annotation)
        elif isinstance(part, int):
            path.append(_printable(part))
            field = None
        else:
            sections = tuple(s for s in sections if part in _kinds(s)) or sections
    if is_unknown:
        path.append(_printable(location[-1]))
        field = None
    siblings = _names(sections) if is_unknown else ()
    return Place(".".join(path), path[-1] if path else "", field, siblings)


def _printable(part: str | int) -> str:
    """A part of a path as it is, in quotes where it would break the line or the path."""
    return str(part) if re.fullmatch(r"[\w-]+", str(part), re.ASCII) else json.dumps(part)


def sections_of(field: FieldInfo) -> tuple[type[Section], ...]:
    """The sections that a field may have, in order."""
    return _chosen(field.metadata) or sections_in(field.annotation)


def section_by_default(field: FieldInfo) -> type[Section] | None:
    """The section of a field that names no kind; None if it must, or has no section."""
    sections = sections_of(field)
    mark = next((mark for mark in field.metadata if isinstance(mark, OfKind)), None)
    if mark is not None and mark.default is not None:
        return mark.sections()[mark.default]
    return sections[0] if len(sections) == 1 else None


def sections_in(annotation: Any) -> tuple[type[Section], ...]:
    """The sections that an annotation mentions, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return (annotation,)
    arguments = get_args(annotation)
    chosen = _chosen(arguments[1:]) if get_origin(annotation) is Annotated else ()
    return chosen or tuple(section for argument in arguments for section in sections_in(argument))


def _chosen(marks: Iterable[Any]) -> tuple[type[Section], ...]:
    """The sections of all kinds, where an annotation is marked as of one of them."""
    return next(
        (tuple(mark.sections().values()) for mark in marks if isinstance(mark, OfKind | OfKey | AsRegistered)), ()
    )


def _keys_below(section: type[Section], prefix: str) -> Iterator[str]:
    for name, field in _fields(section).items():
        yield prefix + name
        entry = f".{WILDCARD}" if _has_entries(field.annotation) else ""
        for below in sections_of(field):
            yield from _keys_below(below, f"{prefix}{name}{entry}.")


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _names(sections: Sequence[type[Section]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for section in sections for name in _fields(section)))


def _has_entries(annotation: Any) -> bool:
    """Whether sections lie one level deeper, under names or indices."""
    return get_origin(annotation) in (dict, tuple) and bool(sections_in(annotation))


def _kinds(section: type[Section]) -> tuple[str, ...]:
    """The tags by which a section is chosen from a union: its kinds, and its class name."""
    kind = _fields(section).get("kind")
    annotation = None if kind is None else kind.annotation
    return (section.__name__, *(get_args(annotation) if get_origin(annotation) is Literal else ()))
