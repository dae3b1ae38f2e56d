"""How commands answer: at most so wide, and into the files that options name."""

from collections.abc import Mapping
from pathlib import Path

from counterpoint.errors import InputError

MOST_COLUMNS = 120
"""Most columns that are used of a wide terminal, so that lines stay readable."""


def refuse_beside(option: str, others: Mapping[str, object]) -> None:
    """Raise InputError for options that are given, not None, beside one with which they mean nothing."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        it = "it" if len(given) == 1 else "them"
        raise InputError(
            f"{' and '.join(given)}: got {it} with {option}, which makes no use of {it}, expected one or the other; "
            f"leave {it} or {option} out"
        )


def check_distinct(files: Mapping[str, Path | None]) -> None:
    """Raise InputError if two of the files that a command reads or writes are the same; the keys are their names."""
    names: dict[Path, str] = {}
    for name, file in files.items():
        if file is not None and (other := names.setdefault(file.resolve(), name)) != name:
            raise InputError(
                f"{name} {file}: got the file of {other} again, expected another one, since one would replace the "
                "other; choose another file"
            )


def write_file(file: Path, option: str, text: str) -> None:
    """Write what an option asks for; raises InputError with the option if that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written ({error.strerror}); choose another file") from None
