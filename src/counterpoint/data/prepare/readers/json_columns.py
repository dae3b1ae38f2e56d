"""The columns of JSON records, as their first ones show them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from counterpoint.data.prepare.readers.sniff import SUFFIXES
from counterpoint.data.prepare.shapes.shape import BINARY, NULL, NUMBER, OTHER, STRUCT, TEXT, Columns, element
from counterpoint.data.prepare.shards import Row
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

ROWS_LOOKED_AT = 1000
_DEEPEST = 4


def seen_columns(rows: Iterable[Row]) -> Columns:
    """The keys of the first rows that are objects, each with the kind that most of its values are of."""
    found: dict[str, Counter[str]] = {}
    try:
        for row in islice(rows, ROWS_LOOKED_AT):
            if isinstance(row.values, Mapping):
                for key, value in row.values.items():
                    found.setdefault(key, Counter()).update([json_kind(value)])
    except DataError:
        # Whoever reads the rows meets it again, and says where.
        pass
    return {key: _most(kinds) for key, kinds in found.items()}


def json_kind(value: Any) -> str:
    """The kind of a value."""
    kind = OTHER
    if value is None:
        kind = NULL
    elif isinstance(value, str):
        kind = TEXT
    elif isinstance(value, int | float):
        kind = NUMBER
    elif isinstance(value, Stored):
        kind = SUFFIXES.get(value.name.rpartition(".")[2].lower(), BINARY)
    elif isinstance(value, Mapping):
        kind = STRUCT
    elif isinstance(value, list):
        inner: Any = value
        depth = 0
        while isinstance(inner, list) and depth < _DEEPEST:
            depth, inner = depth + 1, next((one for one in inner if one is not None), None)
        kind = "list<" * depth + (OTHER if isinstance(inner, list) else json_kind(inner)) + ">" * depth
    return kind


def _most(kinds: Counter[str]) -> str:
    """The kind of most values; nulls, and lists without an element, say nothing where others do."""
    telling = Counter({kind: count for kind, count in kinds.items() if element(kind) != NULL})
    return (telling or kinds).most_common(1)[0][0]
