"""Whether the values that a plug-in is made of have the types that their classes declare."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import repeat
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from counterpoint.section.problem import show


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value of a wrong type: where it is (`.optimizers["mine"].section`), what it is, and what was declared."""

    path: str
    got: str
    expected: str


def first_misfit(value: object, declared: Any, path: str = "") -> Misfit | None:
    """The first value that is not of its declared type, in an object and all that it is made of; None if all are.

    What functions take and return is not known before they are called.
    """
    if not _fits(value, declared):
        return Misfit(path, _shown(value), _expected(declared))
    for step, part, of_part in _parts(value, declared):
        misfit = first_misfit(part, of_part, path + step)
        if misfit is not None:
            return misfit
    return None


def _fits(value: object, declared: Any) -> bool:
    """Whether a value is of a type, its parts apart."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared is Any:
        return True
    if isinstance(declared, TypeVar):
        return _fits(value, declared.__bound__ or Any)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return value in arguments
    if origin is type:
        return isinstance(value, type) and issubclass(value, _class_of(arguments[0]))
    if origin is Callable:
        return callable(value)
    return isinstance(value, (int, float) if declared is float else _class_of(declared))


def _parts(value: object, declared: Any) -> Iterator[tuple[str, object, Any]]:
    """The parts of a value of a type, each with the step to it and its type."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        yield from _parts(value, next(choice for choice in arguments if _fits(value, choice)))
    elif isinstance(value, Mapping) and arguments:
        for key, entry in value.items():
            yield f", the key {show(key)}", key, arguments[0]
            yield f"[{show(key)}]", entry, arguments[1]
    elif isinstance(value, tuple) and origin is tuple:
        of_entries = repeat(arguments[0]) if arguments[-1] is ... else arguments
        for number, (entry, of_entry) in enumerate(zip(value, of_entries, strict=False)):
            yield f"[{number}]", entry, of_entry
    elif is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        yield from ((f".{field.name}", getattr(value, field.name), hints[field.name]) for field in fields(value))


def _class_of(declared: Any) -> type:
    """The class of a type, without its arguments."""
    if isinstance(declared, TypeVar):
        return _class_of(declared.__bound__)
    found: type = get_origin(declared) or declared
    return found


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    is_plain = isinstance(value, str | int | float | list | tuple | dict | None)
    return f"{_one(type(value))} {show(value)}" if is_plain else f"an object of the class {type(value).__name__}"


def _one(class_: type) -> str:
    return f"{'an' if class_.__name__[0] in 'AEIOUaeiou' else 'a'} {class_.__name__}"


def _expected(declared: Any) -> str:
    origin, arguments = get_origin(declared), get_args(declared)
    if declared is NoneType:
        return "None"
    if isinstance(declared, TypeVar):
        return _expected(declared.__bound__)
    if origin in (Union, UnionType):
        return " or ".join(_expected(choice) for choice in arguments)
    if origin is Literal:
        return f"one of {', '.join(show(choice) for choice in arguments)}"
    if origin is type:
        return f"a class derived from {_class_of(arguments[0]).__name__}"
    if origin is Callable:
        return "a function"
    return _one(_class_of(declared))
