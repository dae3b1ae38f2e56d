"""The metrics and other results in a run folder, as dataclasses."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from counterpoint.config.run_files import PLAN_FILE, TIMELINE_FILE
from counterpoint.errors import InputError
from counterpoint.plan.action import Action, parse_action
from counterpoint.plan.form import plan_of_form
from counterpoint.plan.plan import Plan
from counterpoint.recorders.json_lines import METRICS_FILE


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The record of a parameter group in a logged step."""

    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """The record of a module in a logged step; `mfu` is None on a device with an unknown peak.

    `learning_rate` is that of parameters outside the `groups`, which are by name.
    """

    learning_rate: float
    gradient_norm: float
    tflops_per_rank: float
    mfu: float | None
    mfu_all: float | None
    imbalance: float
    peak_memory_bytes: int
    groups: dict[str, GroupRecord]


@dataclass(frozen=True, slots=True)
class Load:
    """The fewest and the most rows of an expert of a layer, divided by the layer's mean."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A logged training step; `losses` are further losses by name, `loads` expert loads by layer."""

    step: int
    loss: float
    loss_tokens: int
    tokens_per_second: float
    step_seconds: float
    gradient_norm: float
    bad_payloads: int
    modules: dict[str, ModuleRecord]
    losses: dict[str, float]
    loads: dict[str, Load]


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """The census of a dataset over `counted` documents; `left_out` and `without_loss` are by reason."""

    documents: int
    counted: int
    kept: int
    cut: int
    lost: int
    left_out: dict[str, int]
    without_loss: dict[str, int]


@dataclass(frozen=True, slots=True)
class Metrics:
    """A run's metrics by step.

    `evaluations[split]` are (step, loss). `datasets` are the censuses of the last start, by name. `skipped` are the
    steps that were not finite and updated nothing. `unreadable` is the number of incomplete lines.
    """

    steps: tuple[StepRecord, ...]
    evaluations: dict[str, tuple[tuple[int, float], ...]]
    unreadable: int
    datasets: dict[str, DatasetRecord]
    skipped: tuple[int, ...]


NO_METRICS = Metrics((), {}, 0, {}, ())


@dataclass(frozen=True, slots=True)
class Timed:
    """An action of a measured step: when it began, when the rows that it waits for had arrived, and when it ended."""

    action: Action
    start: float
    ready: float
    end: float

    @property
    def waited(self) -> float:
        """Seconds of waiting for rows."""
        return self.ready - self.start


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured step: the actions of each rank, in seconds from the first; `device` is what it ran on."""

    step: int
    ranks: dict[int, tuple[Timed, ...]]
    device: str = ""

    @property
    def seconds(self) -> float:
        """From the first action's begin to the last one's end."""
        return max((one.end for row in self.ranks.values() for one in row), default=0.0)


_FURTHER = {"mtp_loss": "multi-token prediction", "balance_loss": "balance of experts"}
"""Further losses with their own keys, and their names in reports."""

_Record = TypeVar("_Record", Load, StepRecord, ModuleRecord, GroupRecord, DatasetRecord)


def read_metrics(run: Path) -> Metrics | None:
    """`metrics.jsonl` of a run, or None without one: the steps of the last start, and of earlier ones those before it;
    the last record of a step counts."""
    file = run / METRICS_FILE
    if not file.is_file():
        return None
    steps: dict[int, StepRecord] = {}
    evaluations: dict[str, dict[int, float]] = {}
    datasets: dict[str, DatasetRecord] = {}
    skipped: set[int] = set()
    unreadable = 0
    for line in file.read_text().splitlines():
        try:
            _take(json.loads(line), steps, evaluations, datasets, skipped)
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    splits = {split: tuple(sorted(losses.items())) for split, losses in evaluations.items() if losses}
    ordered = tuple(steps[step] for step in sorted(steps))
    return Metrics(ordered, splits, unreadable, datasets, tuple(sorted(skipped)))


def read_timeline(run: Path) -> Measured | None:
    """The last step in `timeline.json` of a run, times counted from its first start, or None without a readable one."""
    data = _read_json(run / TIMELINE_FILE)
    try:
        # Earlier versions wrote one step, and nothing about the device.
        found = data["steps"][-1] if "steps" in data else data
        rows = {int(rank): tuple(_timed(entries)) for rank, entries in found["ranks"].items()}
        first = min(one.start for row in rows.values() for one in row)
        ranks = {rank: tuple(_earlier(one, first) for one in rows[rank]) for rank in sorted(rows)}
        return Measured(found["step"], ranks, str(data.get("device", "")))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, InputError):
        return None


def read_plan(run: Path) -> Plan | None:
    """The plan of a run, or None without a readable one: earlier versions wrote none, or in another form."""
    try:
        return plan_of_form(_read_json(run / PLAN_FILE))
    except InputError:
        return None


def read_strings(file: Path) -> dict[str, str]:
    """A flat JSON object as text, empty without a readable one."""
    data = _read_json(file)
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}


def _take(
    data: dict[str, Any],
    steps: dict[int, StepRecord],
    evaluations: dict[str, dict[int, float]],
    datasets: dict[str, DatasetRecord],
    skipped: set[int],
) -> None:
    if "data" in data:
        datasets[data["data"]] = _record(DatasetRecord, data)
        # Training starts after this step, so what earlier starts recorded after it is of steps that are gone.
        begun = data["step"]
        skipped.difference_update({step for step in skipped if step > begun})
        _leave(steps, begun)
        for losses in evaluations.values():
            _leave(losses, begun)
        return
    if "skipped" in data:
        skipped.add(data["step"])
        return
    if "evaluation" in data:
        evaluations.setdefault(data["evaluation"], {})[data["step"]] = data["loss"]
        return
    if "why" in data or "compiled" in data:
        # Records about documents, skipped checkpoints and compilation have no metrics.
        return
    modules = {name: _module_record(values) for name, values in data["modules"].items()}
    losses = {name: data[key] for key, name in _FURTHER.items() if key in data} | data.get("losses", {})
    loads = {layer: _record(Load, load) for layer, load in data.get("expert_loads", {}).items()}
    steps[data["step"]] = _record(StepRecord, {**data, "modules": modules, "losses": losses, "loads": loads})


def _leave(of_steps: dict[int, Any], begun: int) -> None:
    """Remove what is of later steps."""
    for step in [step for step in of_steps if step > begun]:
        del of_steps[step]


def _module_record(values: dict[str, Any]) -> ModuleRecord:
    groups = {name: _record(GroupRecord, group) for name, group in values.get("groups", {}).items()}
    return _record(ModuleRecord, {**values, "groups": groups})


def _record(kind: type[_Record], values: dict[str, Any]) -> _Record:
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def _timed(entries: list[dict[str, Any]]) -> Iterator[Timed]:
    for entry in entries:
        start, end = float(entry["start"]), float(entry["end"])
        yield Timed(parse_action(entry["action"]), start, float(entry.get("ready", start)), end)


def _earlier(one: Timed, seconds: float) -> Timed:
    return Timed(one.action, one.start - seconds, one.ready - seconds, one.end - seconds)


def _read_json(file: Path) -> Any:
    """The file's content, or None if there is none or it is not JSON."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
