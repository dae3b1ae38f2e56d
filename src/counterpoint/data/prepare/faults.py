"""Bad samples, counted by reason: an error's message without what is particular to one sample."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from counterpoint.errors import DataError, MissingFileError

ERRORS_NAME = "errors.jsonl"
MOST_PLACES = 5
MOST_REASONS = 100
OTHERS = "other reasons"

_PARTICULAR = re.compile(r"""'[^']*'|"[^"]*"|\S*[/\\]\S*|\S*\w\.\w\S*|\S*\d\S*|\{.*\}|\[.*\]""", re.DOTALL)
"""Quoted values, paths, names of files, numbers, and objects."""


@dataclass(slots=True)
class Fault:
    """One reason: how many samples have it, whether it is a missing file, the first message and the first places."""

    count: int
    is_missing: bool
    message: str
    places: list[str]


@dataclass(slots=True)
class Faults:
    """All reasons, by their words, in the order in which they were met."""

    by_reason: dict[str, Fault] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Samples left out."""
        return sum(fault.count for fault in self.by_reason.values())

    @property
    def missing(self) -> int:
        """Samples left out because a file is missing."""
        return sum(fault.count for fault in self.by_reason.values() if fault.is_missing)

    def add(self, place: str, error: DataError) -> None:
        """Count a bad sample."""
        message = str(error)
        fault = Fault(1, isinstance(error, MissingFileError), message, [place])
        self._merge(_PARTICULAR.sub("...", message.replace("\n", " ")), fault)

    def update(self, others: "Faults") -> None:
        """Count those of a later part."""
        for reason, fault in others.by_reason.items():
            self._merge(reason, fault)

    def values(self) -> dict[str, Any]:
        """As JSON holds them."""
        return {reason: asdict(fault) for reason, fault in self.by_reason.items()}

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Faults":
        """From JSON."""
        return cls({reason: Fault(**each) for reason, each in values.items()})

    def lines(self, folders: Sequence[Path]) -> Iterator[str]:
        """A line of JSON for each reason, the most frequent first; `folders` are not written, as they may differ."""
        for reason, fault in sorted(self.by_reason.items(), key=lambda item: (-item[1].count, item[0])):
            own = asdict(fault) | {
                "message": _without(fault.message, folders),
                "places": [_without(place, folders) for place in fault.places],
            }
            yield json.dumps({"reason": _without(reason, folders), **own}) + "\n"

    def remarks(self) -> Iterator[str]:
        """A sentence for each reason, the most frequent first."""
        for reason, fault in sorted(self.by_reason.items(), key=lambda item: (-item[1].count, item[0])):
            more = ", ..." if fault.count > len(fault.places) else ""
            said = "further reasons" if reason == OTHERS else fault.message
            yield f"left out {fault.count} ({', '.join(fault.places)}{more}): {said}"

    def _merge(self, reason: str, fault: Fault) -> None:
        known = self.by_reason.get(reason)
        if known is None and len(self.by_reason) >= MOST_REASONS:
            reason = f"{OTHERS}: missing files" if fault.is_missing else OTHERS
            known = self.by_reason.get(reason)
        if known is None:
            self.by_reason[reason] = Fault(fault.count, fault.is_missing, fault.message, list(fault.places))
            return
        known.count += fault.count
        known.places = [*known.places, *fault.places][:MOST_PLACES]


def _without(text: str, folders: Sequence[Path]) -> str:
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), ".")
    return text
