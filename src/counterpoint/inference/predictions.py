"""A model's predictions for held-out samples, in memory and in `evaluation.json` of its run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from counterpoint.config.run_files import EVALUATION_FILE
from counterpoint.errors import DataError


@dataclass(frozen=True, slots=True)
class Prediction:
    """One held-out answer: its document, the true text, what the model wrote, and which of its answers it is."""

    index: int
    truth: str
    written: str
    answer: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether both are the same text."""
        return self.truth == self.written


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written for a split, and how many documents were left out; `why` is the first unreadable one's reason.

    `too_long` counts true answers that have more tokens than could be written.
    """

    rows: tuple[Prediction, ...] = ()
    without_target: int = 0
    unreadable: int = 0
    unfit: int = 0
    too_long: int = 0
    why: str = ""

    @property
    def num_exact(self) -> int:
        """Number of predictions that equal the truth."""
        return sum(row.is_exact for row in self.rows)

    @property
    def exact(self) -> float:
        """The share of predictions that equal the truth."""
        return self.num_exact / max(len(self.rows), 1)

    @property
    def left_out(self) -> str:
        """A sentence on the documents that were left out and why, empty if none was."""
        parts = [f"{self.without_target} without a target"] if self.without_target else []
        parts += [f"{self.unreadable} with an unreadable item (the first: {self.why})"] if self.unreadable else []
        parts += [f"{self.unfit} that do not fit into data.sequence_tokens"] if self.unfit else []
        return " and ".join(parts)

    @property
    def counts(self) -> dict[str, Any]:
        """All but the rows, by name."""
        found = asdict(replace(self, rows=()))
        del found["rows"]
        return found


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions by split at one step; `writing` says how they were written, if known."""

    step: int
    splits: dict[str, Predictions]
    writing: Mapping[str, Any]

    def write(self, run: Path) -> None:
        """Write `evaluation.json` of a run; raises DataError."""
        record = {
            "step": self.step,
            "writing": self.writing,
            "splits": {split: [asdict(row) for row in found.rows] for split, found in self.splits.items()},
            "left_out": {split: found.left_out for split, found in self.splits.items() if found.left_out},
            "counts": {split: found.counts for split, found in self.splits.items()},
        }
        file = run / EVALUATION_FILE
        try:
            file.write_text(json.dumps(record, indent=1))
        except OSError as error:
            raise DataError(
                f"{file}: cannot be written ({error.strerror}), expected a writable run folder; change its permissions"
            ) from None

    @classmethod
    def read(cls, run: Path) -> "Evaluation | None":
        """`evaluation.json` of a run, or None without a readable one; earlier versions wrote rows alone."""
        try:
            data = json.loads((run / EVALUATION_FILE).read_text())
            counts = data.get("counts", {})
            splits = {
                split: Predictions(tuple(Prediction(**row) for row in rows), **counts.get(split, {}))
                for split, rows in data["splits"].items()
            }
            return cls(data["step"], splits, data.get("writing", {}))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
