"""The command `plan`: print and prove a config's plan and its first batch, without running it."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from counterpoint import costs
from counterpoint.errors import InputError
from counterpoint.report.answer import MOST_COLUMNS, check_distinct, write_file
from counterpoint.report.estimate_text import estimate_text
from counterpoint.report.plan_html import plan_html
from counterpoint.report.plan_json import plan_json
from counterpoint.report.plan_text import describe_plan
from counterpoint.report.trace import trace_of
from counterpoint.setup.plan import execution_of
from counterpoint.setup.run import check_data, load_settled, prepare_run
from counterpoint.simulate.estimate import estimate

ESTIMATED_STEPS = 4
"""Steps of the data whose mean is estimated."""


def show_plan(
    config: Path, overrides: Sequence[str], *, html: Path | None, json_file: Path | None, rank: int | None,
    console: Console, hardware: str | None = None, trace: Path | None = None,
) -> None:  # fmt: skip
    """Print the plan, or one rank's part, and optionally write it as a page and as data.

    With the name or file of `hardware` the seconds of a step on it are estimated, and written to `trace`. Raises
    ConfigError, PlacementError, DataError, ProofError or InputError; nothing is written then.
    """
    if trace is not None and hardware is None:
        raise InputError(
            f"--trace {trace}: got no hardware, expected one on which the step is timed; add --hardware NAME or FILE"
        )
    check_distinct({"CONFIG": config, "--html": html, "--json": json_file, "--trace": trace})
    machine = None if hardware is None else costs.load(hardware)
    loaded = load_settled(config, overrides)
    plan, _models, corpus = prepare_run(loaded)
    check_data(loaded, corpus)
    batch = plan.batch(0, corpus.packs(0))
    picture, width = describe_plan(plan, rank, batch), min(console.width, MOST_COLUMNS)
    estimated = None
    if machine is not None:
        batches = [batch, *(plan.batch(step, corpus.packs(step)) for step in range(1, ESTIMATED_STEPS))]
        estimated = estimate(plan, machine, batches, execution_of(loaded))
    console.print(picture, soft_wrap=False, width=width, markup=False)
    if estimated is not None:
        console.print(estimate_text(estimated), soft_wrap=False, width=width, markup=False)
    for name, census in corpus.censuses():
        console.print(f"{name}: {census.words}", markup=False)
    if html is not None:
        write_file(html, "--html", plan_html(plan, batch, estimated))
        console.print(f"page: {html}", markup=False)
    if json_file is not None:
        write_file(json_file, "--json", json.dumps(plan_json(plan, batch, estimated), indent=1) + "\n")
        console.print(f"data: {json_file}", markup=False)
    if trace is not None and estimated is not None:
        write_file(trace, "--trace", json.dumps(trace_of(estimated)) + "\n")
        console.print(f"trace: {trace}", markup=False)
