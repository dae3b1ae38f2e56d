"""The command `plan --rank R --dry-run`: build one rank of any world in this process."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from counterpoint.report.answer import MOST_COLUMNS, check_distinct, write_file
from counterpoint.report.dry_run_text import dry_run_json, dry_run_text
from counterpoint.setup.dry_run import dry_run
from counterpoint.setup.plan import plan_of
from counterpoint.setup.run import build_models, load_settled


def show_dry_run(
    config: Path, overrides: Sequence[str], *, json_file: Path | None, rank: int, console: Console
) -> None:
    """Print what one rank makes and keeps, and optionally write it as data; nothing is proved.

    Raises ConfigError, PlacementError, InputError, or DataError for the tokenizer.
    """
    check_distinct({"CONFIG": config, "--json": json_file})
    loaded = load_settled(config, overrides)
    models = build_models(loaded)
    found = dry_run(loaded, plan_of(loaded, models), models, rank)
    console.print(dry_run_text(found), soft_wrap=False, width=min(console.width, MOST_COLUMNS), markup=False)
    if json_file is not None:
        write_file(json_file, "--json", json.dumps(dry_run_json(found), indent=1) + "\n")
        console.print(f"data: {json_file}", markup=False)
