"""A digest of plain data: the same in every process that has equal data, whatever the order of its dicts and sets."""

import hashlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum

_DIGITS = 16
"""Hexadecimal digits: two plans that differ have the same digest once in 10**19."""


def digest_of(value: object) -> str:
    """The digest of dataclasses, mappings, sets, tuples, lists, ranges and scalars, one inside the other.

    Raises TypeError for anything else, such as a function, which could not be told from another one.
    """
    seal = hashlib.sha256()
    for piece in _pieces(value):
        seal.update(piece)
    return seal.hexdigest()[:_DIGITS]


def _pieces(value: object) -> Iterator[bytes]:
    """An encoding from which the value could be read back, so that no two values share one."""
    match value:
        case None | bool() | int() | float() | str() | range():
            # An enumeration of strings is one of these, and has the name of its class.
            yield f"{type(value).__name__} {value!r};".encode()
        case Enum():
            yield f"{type(value).__name__} {value.name};".encode()
        case tuple() | list():
            yield f"[{len(value)}:".encode()
            if set(map(type, value)) == {int}:
                yield repr(value).encode()
            else:
                for one in value:
                    yield from _pieces(one)
        case Set():
            yield f"{{{len(value)}:".encode()
            yield from sorted(b"".join(_pieces(one)) for one in value)
        case Mapping():
            yield f"({len(value)}:".encode()
            yield from sorted(b"".join((*_pieces(key), *_pieces(one))) for key, one in value.items())
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield f"{type(value).__name__} {len(fields(value))}:".encode()
            for field in fields(value):
                yield from _pieces(getattr(value, field.name))
        case _:
            raise TypeError(f"no digest of a {type(value).__name__}, expected plain data")
