"""docs/mutations.md: what was planted and what noticed it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutant import Mutant

NOT_RUN = "not run"
"""What begins the outcome of a fault that was not planted since it was written, or since it moved."""

HEAD = """# Planted faults

Faults as a tired engineer makes them, planted one by one in a copy of the repository. `python -m tests.mutation` plants
them again: first the tests that a fault names, then with `--unit` all unit tests, with `--ranks` those on ranks. It
writes this page.

"""


def write_table(mutants: Sequence[Mutant], results: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Write the page for all mutants, with what is known of each."""
    rows = []
    caught = unknown = 0
    for mutant in mutants:
        verdict = results.get(mutant.name, {"outcome": NOT_RUN, "by": ""})
        is_caught = verdict["outcome"] in ("caught", "timed out")
        caught += is_caught
        unknown += verdict["outcome"].startswith(NOT_RUN)
        what = _code(verdict["by"]) if is_caught else f"**{verdict['outcome']}** {mutant.harmless or verdict['by']}"
        rows.append(f"| `{mutant.where}` | {_code(mutant.old)} | {_code(mutant.new)} | {what} |")
    known = len(mutants) - unknown
    share = f"{caught} of the {known} whose end is known are caught, {100 * caught / max(known, 1):.1f} %"
    share += f"; {unknown} have not been run as they are now.\n\n" if unknown else ".\n\n"
    table = "| in | for | stands | caught by |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    file.write_text(HEAD + share + table)


def _code(text: str) -> str:
    """A snippet in one line of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    return f"`{line}`" if line else "nothing"
