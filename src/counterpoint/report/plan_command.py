"""The command `plan`: print and prove a config's plan and its first batch, without running it."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from counterpoint.errors import InputError
from counterpoint.report.plan_html import plan_html
from counterpoint.report.plan_json import plan_json
from counterpoint.report.plan_text import describe_plan
from counterpoint.setup.run import check_data, load_settled, prepare_run

MOST_COLUMNS = 120
"""Most columns that are used of a wide terminal, so that lines stay readable."""


def show_plan(
    config: Path, overrides: Sequence[str], *, html: Path | None, json_file: Path | None, rank: int | None,
    console: Console,
) -> None:  # fmt: skip
    """Print the plan, or one rank's part, and optionally write it as a page and as data.

    Raises ConfigError, PlacementError, DataError or ProofError; nothing is written then.
    """
    loaded = load_settled(config, overrides)
    plan, _models, corpus = prepare_run(loaded)
    check_data(loaded, corpus)
    batch = plan.batch(0, corpus.packs(0))
    picture = describe_plan(plan, rank, batch)
    console.print(picture, soft_wrap=False, width=min(console.width, MOST_COLUMNS), markup=False)
    for name, census in corpus.censuses():
        console.print(f"{name}: {census.words}", markup=False)
    if html is not None:
        write_file(html, "--html", plan_html(plan, batch))
        console.print(f"page: {html}", markup=False)
    if json_file is not None:
        write_file(json_file, "--json", json.dumps(plan_json(plan, batch), indent=1) + "\n")
        console.print(f"data: {json_file}", markup=False)


def write_file(file: Path, option: str, text: str) -> None:
    """Write what an option asks for; raises InputError with the option if that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written ({error.strerror}); choose another file") from None
