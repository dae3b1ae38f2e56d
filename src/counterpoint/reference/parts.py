"""The reference as data: every section of the config with the places where it may stand, and its keys."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from counterpoint.config.keys import WILDCARD
from counterpoint.reference.json_schema import json_schema
from counterpoint.reference.type_words import shown, type_words
from counterpoint.section.described import Description
from counterpoint.section.of_kind import KIND

_DEFS = "#/$defs/"

REQUIRED, HANDED_DOWN, OWN_DEFAULTS = "required", "the decoder's", "its defaults"
"""What stands as the default of a key that must be given, has the value of the decoder around it, or is a section."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Says which of several sections one is: of these `kinds`, or that which has this `key`; nothing if it is alone or
    what is left."""

    kinds: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section: type and default in words, description, and its unit, empty where there is none.

    If its value is a section, `sections` are the names of what it may be, which a `Part` has.
    """

    name: str
    type: str
    default: str
    text: str
    unit: str
    sections: tuple[tuple[Choice, str], ...] = ()

    @property
    def has_default(self) -> bool:
        """Whether `default` is a value."""
        return self.default not in (REQUIRED, HANDED_DOWN, OWN_DEFAULTS)


@dataclass(frozen=True, slots=True)
class Part:
    """A section: the dotted paths where it may stand (`*` for names and indices; empty for the config itself), which of
    several it is there, what it says of itself, and its keys."""

    name: str
    choice: Choice
    paths: tuple[str, ...]
    summary: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Inner:
    """A section that a value may be: its definition, and the lists and mappings around it."""

    name: str
    choice: Choice = Choice()
    depth: int = 0
    must_name_kind: bool = False


@dataclass(slots=True)
class _Found:
    """How a definition is reached; `owner` says which of several the section around it is."""

    inner: _Inner
    owner: Choice = Choice()
    paths: dict[str, None] = field(default_factory=dict)


def parts() -> tuple[Part, ...]:
    """Every section once, in the order of the config; those of registered kinds included."""
    schema = json_schema()
    definitions: dict[str, Any] = schema["$defs"] | {"": schema}
    found: dict[str, _Found] = {}
    _visit(_Inner(""), "", definitions, found)
    first = Counter((next(iter(how.paths)), how.inner.choice) for how in found.values())
    return tuple(
        Part(
            name=name,
            # Sections at one path that nothing tells apart are those of different sections around them.
            choice=how.owner if first[next(iter(how.paths)), how.inner.choice] > 1 else how.inner.choice,
            paths=tuple(how.paths),
            summary=" ".join(definitions[name].get("description", "").split()),
            keys=tuple(_keys(how.inner, definitions)),
        )
        for name, how in found.items()
    )


def below(path: str, name: str) -> str:
    """The path of a key of a section that stands at a path."""
    return f"{path}.{name}" if path else name


def _visit(
    inner: _Inner, path: str, definitions: Mapping[str, Any], found: dict[str, _Found], owner: Choice = Choice()
) -> None:
    found.setdefault(inner.name, _Found(inner, owner)).paths[path] = None
    for key, schema in definitions[inner.name]["properties"].items():
        for further in _sections(schema):
            _visit(further, below(path, key) + f".{WILDCARD}" * further.depth, definitions, found, inner.choice)


def _sections(schema: Mapping[str, Any]) -> Iterator[_Inner]:
    """The sections that a value may be."""
    match schema:
        case {"$ref": reference}:
            yield _Inner(reference.removeprefix(_DEFS))
        case {"anyOf": choices}:
            for choice in choices:
                yield from _sections(choice)
        case {"allOf": choices}:
            for choice in choices:
                kinds, must = tuple(choice["if"]["properties"][KIND]["enum"]), "required" in choice["if"]
                for inner in _sections(choice["then"]):
                    yield replace(inner, choice=Choice(kinds=kinds), must_name_kind=must)
        case {"if": {"required": [key]}, "then": then, "else": otherwise}:
            for inner in _sections(then):
                yield replace(inner, choice=Choice(key=key))
            yield from _sections(otherwise)
        case {"items": inside} | {"additionalProperties": Mapping() as inside}:
            for inner in _sections(inside):
                yield replace(inner, depth=inner.depth + 1)


def _keys(inner: _Inner, definitions: Mapping[str, Any]) -> Iterator[Key]:
    section = definitions[inner.name]
    required = {*section.get("required", ()), *([KIND] if inner.must_name_kind else [])}
    for name, schema in section["properties"].items():
        description = Description.of(schema["description"])
        yield Key(
            name=name,
            type=type_words(schema),
            default=REQUIRED if name in required else _default(schema, definitions),
            text=description.text,
            unit=description.unit or "",
            sections=tuple((further.choice, further.name) for further in _sections(schema)),
        )


def _default(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return HANDED_DOWN
    default = schema["default"]
    for inner in _sections(schema):
        keys = definitions[inner.name]["properties"].items()
        if default == {key: value["default"] for key, value in keys if "default" in value}:
            return OWN_DEFAULTS
    return shown(default)
