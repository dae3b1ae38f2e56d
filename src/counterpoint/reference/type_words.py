"""The type of a key in words, from its JSON Schema: `integer, at least 1, or null`."""

import json
from collections.abc import Mapping
from typing import Any

from counterpoint.section.section import LARGEST_INTEGER

_TYPES = {
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "string": "text",
    "object": "section",
}

_PLURALS = {"integer": "integers", "number": "numbers", "section": "sections", "text": "texts"}

_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def shown(value: Any) -> str:
    """A value as YAML has it, in one line."""
    return value if isinstance(value, str) else json.dumps(value)


def type_words(schema: Mapping[str, Any]) -> str:
    """The type and the bounds of a value."""
    *others, last = dict.fromkeys(_alternatives(schema))
    if not others:
        return last
    comma = "," if any("," in word for word in others) else ""
    return f"{', '.join(others)}{comma} or {last}"


def _alternatives(schema: Mapping[str, Any]) -> list[str]:
    match schema:
        case {"anyOf": choices}:
            return [word for choice in choices for word in _alternatives(choice)]
        case {"const": value}:
            return [f"`{shown(value)}`"]
        case {"enum": values}:
            return [f"`{shown(value)}`" for value in values]
        case {"type": "array", "prefixItems": items}:
            inside = ", ".join(dict.fromkeys(_several(type_words(item)) for item in items))
            return [f"list of {len(items)} {inside}"]
        case {"type": "array", "items": items}:
            return [f"list of {_several(type_words(items))}{', not empty' if schema.get('minItems') else ''}"]
        case {"type": "object", "additionalProperties": Mapping() as values}:
            inside = _several(type_words(values)) if values else "anything"
            return [f"mapping of names to {inside}{', not empty' if schema.get('minProperties') else ''}"]
        case {"$ref": _} | {"if": _}:
            return ["section"]
        case _:
            return [f"{_TYPES[schema['type']]}{_bounds(schema)}"]


def _bounds(schema: Mapping[str, Any]) -> str:
    """The bounds of a number, those of all integers left out, and the pattern of a text, each after a comma."""
    said = {name: f"{schema[name]:,.12g}" for name in _BOUNDS if schema.get(name) not in (None, LARGEST_INTEGER)}
    if {"minimum", "maximum"} <= said.keys():
        words = [f"{said['minimum']} to {said['maximum']}"]
    else:
        words = [f"{_BOUNDS[name]} {bound}" for name, bound in said.items()]
    words += [f"matching `{schema['pattern']}`"] if "pattern" in schema else []
    return "".join(f", {word}" for word in words)


def _several(words: str) -> str:
    """The words of a type in the plural."""
    kind, comma, rest = words.partition(",")
    return f"{_PLURALS.get(kind, kind)}{comma}{rest}"
