"""What a model wrote for held-out samples, and which were left out."""

from dataclasses import dataclass


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
    """What was written for a split, and how many documents were left out; `why` is of the first unreadable one.

    `too_long` answers have more tokens than were to be written.
    """

    rows: tuple[Prediction, ...] = ()
    without_target: int = 0
    unreadable: int = 0
    unfit: int = 0
    too_long: int = 0
    why: str = ""

    @property
    def exact(self) -> float:
        """The share of predictions that equal the truth."""
        return sum(row.is_exact for row in self.rows) / max(len(self.rows), 1)

    @property
    def left_out(self) -> str:
        """How many documents were left out and why, empty if none was."""
        parts = [f"{self.without_target} without a target"] if self.without_target else []
        parts += [f"{self.unreadable} with an unreadable item (the first: {self.why})"] if self.unreadable else []
        parts += [f"{self.unfit} that do not fit into data.sequence_tokens"] if self.unfit else []
        return " and ".join(parts)

    def joined(self, other: "Predictions") -> "Predictions":
        """These and those of another source of the split."""
        return Predictions(
            self.rows + other.rows,
            self.without_target + other.without_target,
            self.unreadable + other.unreadable,
            self.unfit + other.unfit,
            self.too_long + other.too_long,
            self.why or other.why,
        )
