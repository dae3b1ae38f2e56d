"""Whether a run's modules take what a source holds: its tokens, and items that stand at a mark."""

from collections.abc import Sequence

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intake


def check_vocabulary(owner: str, largest: int, vocabulary: int) -> None:
    """Raise DataError if the largest token of a source, which messages call `owner`, exceeds the model's vocabulary."""
    if largest >= vocabulary:
        raise DataError(
            f"{owner}: holds token {largest}, but the model's vocab is {vocabulary}; set modules.*.model.vocab to at "
            f"least {largest + 1}, or to tokenizer"
        )


def intake_at(owner: str, plural: str, mark: str, able: Sequence[Intake]) -> Intake:
    """Of the intakes that are able to read some items, called `plural`, the one at their mark; raises DataError without
    one."""
    found = next((intake for intake in able if intake.mark == mark), None)
    if found is None:
        taken = ", ".join(f"'{intake.mark}' of module {intake.module}" for intake in able)
        raise DataError(
            f"{owner}: its {plural} stand at the mark '{mark}', but the edges take {taken}; set the mark of an edge to "
            f"'{mark}'."
        )
    return found
