"""Keys of a YAML file in the order and with the comments that they are written with."""

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any, NamedTuple, final

import yaml

_COLUMNS = 120


@final
class Key(NamedTuple):
    """A key with its value on one line, or with the keys `below` it on lines of their own, and a comment.

    With `is_item` the key is the first of an entry of a list.
    """

    name: str
    value: Any = None
    comment: str = ""
    below: tuple["Key", ...] = ()
    is_item: bool = False


def text_of(heading: Sequence[str], keys: Sequence[Key]) -> str:
    """The text of a file: a heading of comment lines, and keys."""
    return "\n".join((*(f"# {line}" for line in heading), *_lines(keys, ""))) + "\n"


def _lines(keys: Sequence[Key], indent: str) -> Iterator[str]:
    for key in keys:
        start = f"{indent}{'- ' if key.is_item else ''}{key.name}:"
        line = start if key.below else f"{start} {flow(key.value)}"
        if key.comment and len(line) + len(key.comment) + 5 <= _COLUMNS:
            line = f"{line}   # {key.comment}"
        elif key.comment:
            yield from (
                f"{indent}# {part}" for part in wrap(key.comment, _COLUMNS - len(indent) - 2, break_on_hyphens=False)
            )
        yield line
        yield from _lines(key.below, f"{indent}{'    ' if key.is_item else '  '}")


def flow(value: Any) -> str:
    """A value in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()
