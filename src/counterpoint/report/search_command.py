"""The command `search`: find layouts of a config's models, print them, and write the fastest one; or compare two
configs."""

import json as json_text
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from counterpoint.config.overrides import apply_overrides
from counterpoint.errors import InputError
from counterpoint.report.answer import MOST_COLUMNS, check_distinct, write_file
from counterpoint.report.search_json import search_json
from counterpoint.report.search_text import describe_comparison, describe_search
from counterpoint.report.words import seconds_text
from counterpoint.search.find import SearchResult, Wish, compare, find, settled
from counterpoint.search.rewrite import rewritten


def show_search(
    config: Path, overrides: Sequence[str], wish: Wish, *, out: Path | None, json: Path | None, console: Console
) -> None:
    """Print what a search found; write the fastest layout as a config to `out`, and all figures as data to `json`.

    Raises InputError; nothing is written then.
    """
    check_distinct({"CONFIG": config, "--out": out, "--json": json})
    if out is not None and out.exists():
        raise InputError(f"--out {out}: exists already, expected a new file; choose another name or remove it")
    loaded = settled(config, overrides)
    result = find(loaded, overrides, wish)
    console.print(
        describe_search(result, wish.top), soft_wrap=False, width=min(console.width, MOST_COLUMNS), markup=False
    )
    if out is not None:
        write_file(out, "--out", rewritten(config, loaded, result.best, _laid_over(overrides), _headline(result)))
        console.print(f"{out}: written; next: counterpoint plan {out}", markup=False)
    if json is not None:
        write_file(json, "--json", json_text.dumps(search_json(result), indent=1) + "\n")
        console.print(f"data: {json}", markup=False)


def show_comparison(
    first: Path, second: Path, overrides: Sequence[str], hardware: str, steps: int, console: Console
) -> None:
    """Print where two configs differ in time; raises InputError."""
    configs = (settled(first, overrides), settled(second, overrides))
    found = compare((str(first), str(second)), configs, hardware, steps)
    console.print(describe_comparison(found), soft_wrap=False, width=min(console.width, MOST_COLUMNS), markup=False)


def _headline(result: SearchResult) -> str:
    score = result.found.outcomes[0].score
    return (
        f"Found by counterpoint search for {result.world_size} ranks of {result.hardware.name} "
        f"({result.hardware.source}): {seconds_text(score.seconds)} a step, {score.utilisation:.1%} of the peak."
    )


def _laid_over(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of overrides by their paths."""
    values: dict[str, Any] = {}
    for override in overrides:
        path = override.partition("=")[0]
        data, _problems = apply_overrides({}, [f"value={override.partition('=')[2]}"])
        values[path] = data["value"]
    return values
