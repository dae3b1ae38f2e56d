"""How many documents of a source are kept, cut, left out or without a loss token, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from counterpoint.errors import DataError

UNFIT = "have items that end beyond data.sequence_tokens"
TOO_LARGE = "have an item that is longer than its module takes"
EMPTY = "are empty"
CUT_TARGETS = "have all targets beyond the cut at data.sequence_tokens"
NO_TARGET = "have no target"
DECLARED = "are declared without a target"
TOO_SHORT = "are drawn too short for a target"

_REMEDY = "raise data.sequence_tokens, take fewer rows of an item, or correct the records"


@dataclass(frozen=True, slots=True)
class Census:
    """Counts over `counted` documents, which are a sample or all of the source's `documents`.

    `left_out` and `without_loss` are numbers of documents by reason, `cut` is the number of kept documents that are
    truncated, `loss_tokens` the number of tokens in the loss.
    """

    documents: int
    counted: int
    cut: int
    loss_tokens: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    without_loss: Mapping[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Number of counted documents that a step may contain."""
        return self.counted - sum(self.left_out.values())

    @property
    def lost(self) -> int:
        """Number of counted documents that contribute no loss, except where the recipe intends that."""
        silent = sum(count for reason, count in self.without_loss.items() if reason not in (DECLARED, TOO_SHORT))
        return sum(self.left_out.values()) + silent

    @property
    def words(self) -> str:
        """The counts as a sentence."""
        sample = "" if self.counted == self.documents else f"of {self.counted:,} counted: "
        parts = [f"{self.kept:,} kept" + (f", {self.cut:,} of them cut" if self.cut else "")]
        if not self.left_out and not self.cut:
            parts = ["all kept whole"]
        parts += [f"{count:,} left out that {reason}" for reason, count in self.left_out.items()]
        parts += [f"{count:,} without loss that {reason}" for reason, count in self.without_loss.items()]
        return f"{self.documents:,} documents: {sample}{'; '.join(parts)}"


def check_census(name: str, census: Census, most_lost: float) -> None:
    """Raise DataError if a dataset has no loss token, or if the share of its lost documents exceeds `most_lost`."""
    if not census.loss_tokens and census.without_loss.get(DECLARED, 0) < census.counted:
        raise DataError(
            f"{name}: no document has a loss token, so nothing would be learned ({census.words}), expected some; "
            f"{_REMEDY}."
        )
    if census.lost > most_lost * census.counted:
        raise DataError(
            f"{name}: {census.lost / census.counted:.1%} of the documents are lost ({census.words}), expected at most "
            f"{most_lost:.1%}; {_REMEDY}, or raise data.max_lost."
        )
