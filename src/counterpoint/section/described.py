"""Descriptions of keys: the string under each field of a section, read from the source file when it is asked for.

So a key's name, type, default, constraints and description stand in one place, and loading a config costs nothing more.
"""

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from pydantic import BaseModel

_UNIT = re.compile(r"\s*(?:Unit: (?P<unit>[^.]+)|No unit)\.$")


class Description(NamedTuple):
    """What a key means and does, and its unit: empty if it has none, None if the description does not say."""

    text: str
    unit: str | None = None

    @classmethod
    def of(cls, text: str) -> "Description":
        """Split a text that ends in `Unit: tokens.` or `No unit.`"""
        unit = _UNIT.search(text)
        return cls(text) if unit is None else cls(text[: unit.start()], unit["unit"] or "")

    def __str__(self) -> str:
        return f"{self.text} Unit: {self.unit}." if self.unit else self.text


def description_of(section: type[BaseModel], name: str) -> Description:
    """The description of the field `name`: `Field(description=...)`, or the string under the field in the nearest class
    that has one; empty where there is none."""
    given = section.model_fields[name].description
    texts = (_under_fields(cls).get(name) for cls in section.__mro__)
    return Description.of(given if given is not None else next((text for text in texts if text is not None), ""))


def _under_fields(section: type) -> Mapping[str, str]:
    """The strings under the fields that a class itself defines, each in one line."""
    body = _classes(section.__module__).get(section.__qualname__, [])
    found: dict[str, str] = {}
    for field, under in pairwise(body):
        text = ast.get_docstring(ast.Module([under], []))
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text is not None:
            found[field.target.id] = " ".join(text.split())
    return found


@cache
def _classes(module: str) -> Mapping[str, list[ast.stmt]]:
    """The bodies of a module's classes by their qualified names; empty if its source is not available."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):
        return {}
    return dict(_bodies(tree, ""))


def _bodies(node: ast.AST, prefix: str) -> list[tuple[str, list[ast.stmt]]]:
    found: list[tuple[str, list[ast.stmt]]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            name = f"{prefix}{child.name}"
            found += [(name, child.body), *_bodies(child, f"{name}.")]
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found += _bodies(child, f"{prefix}{child.name}.<locals>.")
    return found
