"""How commands answer: at most so wide, and into the files that options name."""

from pathlib import Path

from counterpoint.errors import InputError

MOST_COLUMNS = 120
"""Most columns that are used of a wide terminal, so that lines stay readable."""


def write_file(file: Path, option: str, text: str) -> None:
    """Write what an option asks for; raises InputError with the option if that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written ({error.strerror}); choose another file") from None
