"""JSON as datasets have it: no key twice in an object, and no constants that are no numbers."""

import json
from pathlib import Path
from typing import Any, NoReturn

from counterpoint.errors import DataError

SPACE = " \t\r\n"


def decoder() -> json.JSONDecoder:
    """A decoder that raises ValueError for a key that comes twice and for NaN."""
    return json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def unreadable(file: Path, error: OSError) -> DataError:
    """The error for a file that the system refuses to read."""
    return DataError(f"{file}: cannot be read ({error.strerror}); correct its permissions.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for number, (key, _value) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} comes twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
