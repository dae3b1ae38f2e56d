"""docs/mutations.md: what was planted and what noticed it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutant import Mutant

HEAD = """# Planted faults

Faults as a tired engineer makes them, planted one by one in a copy of the repository. `python -m tests.mutation` plants
them again: first the tests that a fault names, then with `--unit` all unit tests, with `--ranks` those on ranks. It
writes this page.

"""


def write_table(mutants: Sequence[Mutant], results: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Write the page for all mutants, with what is known of each."""
    rows = []
    caught = 0
    for mutant in mutants:
        verdict = results.get(mutant.name, {"outcome": "not run", "by": ""})
        is_caught = verdict["outcome"] in ("caught", "timed out")
        caught += is_caught
        what = f"`{verdict['by']}`" if is_caught else f"**{verdict['outcome']}** {mutant.harmless or verdict['by']}"
        rows.append(f"| `{mutant.where}` | {_code(mutant.old)} | {_code(mutant.new)} | {what} |")
    share = f"{caught} of {len(mutants)} are caught, {100 * caught / max(len(mutants), 1):.1f} %.\n\n"
    table = "| in | for | stands | caught by |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    file.write_text(HEAD + share + table)


def _code(text: str) -> str:
    """A snippet in one line of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    return f"`{line}`" if line else "nothing"
