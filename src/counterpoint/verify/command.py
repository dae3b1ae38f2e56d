"""`verify`: one config, or many random layouts of its models, against one plain process."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from counterpoint.argument import argument
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError, CounterpointError
from counterpoint.families import family_of
from counterpoint.setup.run import device_type, prepare_run
from counterpoint.setup.settle import settle_items
from counterpoint.setup.warm_starts import check_values
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.compare import TOLERANCES
from counterpoint.verify.draw import Case, candidate, choose
from counterpoint.verify.pool import Pool

_LARGEST_WORLD = 8
_MOST_REDRAWS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a drawn case ended: `drawn` (equal), `refused` or `failed`, and why."""

    case: Case
    status: str
    result: CaseResult | None
    words: str


def verify(config: Config, dtype: str = "float64") -> CaseResult:
    """Train two steps on a config's own layout and data and in one process, and compare; raises InputError."""
    verified = as_verified(settle_items(config), dtype)
    check_values(verified, prepare_run(verified).models)
    with Pool(verified.world.size, device_type(verified)) as pool:
        result: CaseResult = pool.run(verify_task, verified)
    return result


def verify_config(path: Path, overrides: Sequence[str], dtype: str, json_file: Path | None, console: Console) -> bool:
    """Run a config's own layout and data for two steps; returns whether it equals one process."""
    result = verify(load_config(path, overrides), dtype)
    table = Table(
        "compared",
        "worst relative difference",
        # A name is wrapped, never cut: the reader will search for it.
        Column("at", overflow="fold"),
        title=f"{path}: {dtype}, tolerance {result.tolerance:g}",
    )
    for difference in result.differences:
        table.add_row(difference.kind, f"{difference.value:.1e}", difference.where)
    console.print(table)
    if result.is_tied:
        console.print(
            f"a row chose between experts by {result.margin:.0e}, less than rounding: both sides may rightly differ; "
            "compare with another run.seed"
        )
    if result.first is None:
        console.print("equal to one process")
    else:
        console.print(f"different, and first: {result.first}", markup=False, soft_wrap=True)
        _print_command(console, path, overrides, "--dtype", dtype)
    _write(json_file, asdict(result))
    return result.holds


def verify_random(
    path: Path,
    overrides: Sequence[str],
    count: int,
    seed: int,
    world_size: int | None,
    dtype: str,
    only: int | None,
    json_file: Path | None,
    console: Console,
) -> bool:
    """Draw `count` cases, run each, print drawn, refused and failed cases by feature; returns whether all are equal."""
    base = as_verified(load_config(path, overrides), dtype)
    world = _LARGEST_WORLD if world_size is None else world_size
    cases = [candidate(base, seed, only, world)] if only is not None else choose(base, count, seed, world)
    with Pool(world, device_type(base)) as pool:
        outcomes = []
        for case in cases:
            outcomes.append(run_case(pool, case, dtype, console))
            if outcomes[-1].status != "drawn":
                drawing = ("--seed", seed, "--world-size", world, "--dtype", dtype)
                _print_command(console, path, overrides, "--random", 1, "--case", case.id, *drawing)
    console.print(_table(outcomes, f"{len(cases)} cases of {path}, seed {seed}, at most {world} ranks, {dtype}"))
    worst = max((o.result.worst.value for o in outcomes if o.result is not None), default=0.0)
    failed = [o for o in outcomes if o.status != "drawn"]
    console.print(f"{len(cases) - len(failed)} equal, {len(failed)} not; worst relative difference {worst:.1e}")
    _write(json_file, [_record(outcome) for outcome in outcomes])
    return not failed


def as_verified(config: Config, dtype: str) -> Config:
    """The config as `verify` runs it: one dtype throughout, an optimizer's eps at 1e-3, nothing compiled unless the
    config says so."""
    given = f"{argument('dtype')}: got {dtype!r}"
    if dtype not in TOLERANCES:
        raise ConfigError(f"{given}, expected one of {sorted(TOLERANCES)}; bfloat16 has no meaningful tolerance")
    routed = [name for name, m in config.modules.items() if family_of(m.model).cuts(m.model).has_experts]
    if dtype != "float64" and routed:
        raise ConfigError(
            f"{given} with experts in module {routed[0]}, expected float64: rounding may choose another expert; leave "
            "it out"
        )
    data = config.resolved()
    data["training"]["precision"] = {"parameters": dtype, "compute": dtype, "reduce": dtype}
    if data["training"]["compile"] == "auto":
        data["training"]["compile"] = False
    for module in data["modules"].values():
        if "eps" in module["optimizer"]:
            module["optimizer"]["eps"] = 1e-3
    return load_config(data)


def run_case(pool: Pool, case: Case, dtype: str, console: Console | None = None) -> Outcome:
    """Run one drawn case on a pool."""
    outcome = _run(pool, case, dtype)
    if outcome.words and console is not None:
        console.print(f"case {case.id} {outcome.status}: {outcome.words}", markup=False, soft_wrap=True)
    return outcome


def _run(pool: Pool, case: Case, dtype: str) -> Outcome:
    if case.refusal is not None:
        return Outcome(case, "refused", None, case.refusal)
    words = ""
    config = as_verified(load_config(case.config), dtype)
    try:
        result: CaseResult = pool.run(verify_task, config)
        for redraw in range(1, _MOST_REDRAWS + 1):
            if not result.is_tied:
                break
            seed = config.run.seed + redraw
            words = f"redrawn with run.seed {seed}: a row chose between experts by {result.margin:.0e}"
            again = load_config(config.resolved() | {"run": config.resolved()["run"] | {"seed": seed}})
            result = pool.run(verify_task, again)
    except CounterpointError as error:
        return Outcome(case, "refused" if error.exit_code == 2 else "failed", None, str(error))
    if result.holds:
        return Outcome(case, "drawn", result, words)
    return Outcome(case, "failed", result, f"first, {result.first}")


def _print_command(console: Console, path: Path, overrides: Sequence[str], *options: object) -> None:
    command = shlex.join(["counterpoint", "verify", str(path), *overrides, *map(str, options)])
    console.print(f"again: {command}", markup=False, soft_wrap=True)


def _table(outcomes: Sequence[Outcome], title: str) -> Table:
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for feature in (*outcome.case.features, "all"):
            counts.setdefault(feature, Counter())[outcome.status] += 1
    table = Table("feature", "drawn", "refused", "failed", "share", title=title)
    for feature in sorted(counts, key=lambda name: (name == "all", name)):
        row = counts[feature]
        total = row.total()
        table.add_row(
            feature,
            str(total),
            str(row["refused"]),
            str(row["failed"]),
            f"{100 * total / len(outcomes):.0f} %",
        )
    return table


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.case.id,
        "status": outcome.status,
        "words": outcome.words,
        "features": sorted(outcome.case.features),
        "worst": None if outcome.result is None else asdict(outcome.result.worst),
        "first": None if outcome.result is None or outcome.result.first is None else asdict(outcome.result.first),
        "config": outcome.case.config,
    }


def _write(path: Path | None, record: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(record, indent=1))
