"""The numbers of a record by name, for recorders that store only numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

from counterpoint.recorders.kind import Record

_EVALUATION = "evaluation"
_OF_PEOPLE = ("why", "data")
"""Keys of records about documents and checkpoints, whose numbers are no measurements of a step."""


def numbers_of(record: Record) -> dict[str, float]:
    """All numbers of a step or an evaluation, nested ones as `outer/inner`; empty for other records."""
    values = record.values
    if any(key in values for key in _OF_PEOPLE):
        return {}
    if _EVALUATION not in values:
        return dict(_numbers(values, ""))
    measured = {key: value for key, value in values.items() if key != _EVALUATION}
    return dict(_numbers(measured, f"{_EVALUATION}/{values[_EVALUATION]}/"))


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
