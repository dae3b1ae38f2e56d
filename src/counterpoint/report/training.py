"""The report of a run: one HTML page in its folder, from the files that exist so far."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from counterpoint.config.load import dump_config, read_run_config
from counterpoint.config.run_files import CONFIG_FILE, ERROR_FILE, VERSIONS_FILE
from counterpoint.config.training import ScheduleConfig, TrainingConfig
from counterpoint.errors import CheckpointError, CounterpointError
from counterpoint.inference.predictions import Evaluation
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.report.curves import curve_sections
from counterpoint.report.experts import expert_section
from counterpoint.report.markup import tag, words
from counterpoint.report.page import cards, folded, note, page, section
from counterpoint.report.plan_html import placement_section
from counterpoint.report.predicted import predicted
from counterpoint.report.run_record import (
    Metrics,
    read_metrics,
    read_plan,
    read_strings,
    read_timeline,
)
from counterpoint.report.run_tables import data_section, module_section, timeline_section
from counterpoint.report.samples import Pictures, sample_grid
from counterpoint.report.summary import Summary, summarize
from counterpoint.report.words import count_text, number_text
from counterpoint.setup.data import intakes_of
from counterpoint.setup.run import build_plan

REPORT_FILE = "report.html"


def write_report(run_folder: Path, plan: Plan | None = None, hardware: str | None = None) -> Path:
    """Write the page of a run into its folder and return its path; the page says what is missing.

    `plan` is the run's plan, if the caller already has it. The step that was timed is predicted on `hardware`, or on
    that of its name if it is shipped. Raises InputError for hardware that is neither a name nor a file or lacks
    figures, CheckpointError if the folder is no run folder or cannot be written, ConfigError if its config is
    unreadable.
    """
    config_file = run_folder / CONFIG_FILE
    if not config_file.is_file():
        raise CheckpointError(f"{run_folder}: no config.yaml, expected a run folder; give the run.dir of a training")
    config = read_run_config(config_file)
    metrics, evaluation, measured = read_metrics(run_folder), Evaluation.read(run_folder), read_timeline(run_folder)
    planned, reason = _planned(
        partial(_plan_of, run_folder, partial(build_plan, config)) if plan is None else lambda: plan
    )
    modules = tuple(config.modules)
    text = page(
        f"Training report: {run_folder.resolve().name}",
        _subtitle(config.training, config.schedule, config.world.size, config.run.seed, metrics),
        _failure(run_folder),
        _figures(metrics, evaluation),
        _samples(evaluation, lambda split: Pictures.open(config.data, intakes_of(config), split)),
        *_curves(metrics, modules),
        expert_section(metrics),
        timeline_section(modules, planned, reason, measured, predicted(run_folder, measured, hardware)),
        module_section(modules, planned, metrics),
        data_section(metrics),
        "" if planned is None else placement_section(planned.plan),
        _setting(run_folder, dump_config(config)),
    )
    target = run_folder / REPORT_FILE
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error.strerror}), expected a writable run folder; change its permissions"
        ) from None
    return target


def _plan_of(run_folder: Path, build: Callable[[], Plan]) -> Plan:
    """The plan that the run stored, or else a newly built one."""
    written = read_plan(run_folder)
    return build() if written is None else written


def _planned(build: Callable[[], Plan]) -> tuple[Summary | None, str]:
    """The run's plan, or the reason why it cannot be built here, such as a missing tokenizer."""
    try:
        return summarize(build()), ""
    except CounterpointError as error:
        return None, str(error)


def _subtitle(
    training: TrainingConfig, schedule: ScheduleConfig, ranks: int, seed: int, metrics: Metrics | None
) -> str:
    done = metrics.steps[-1].step if metrics is not None and metrics.steps else 0
    precision = training.precision
    return (
        f"step {done} of {training.steps}; {ranks} ranks; {training.global_batch_samples} samples a step in "
        f"{schedule.microbatches} microbatches, {schedule.kind}; parameters {precision.parameters}, compute "
        f"{precision.compute}, reduce {precision.reduce}; seed {seed}"
    )


def _failure(run_folder: Path) -> str:
    failure = read_strings(run_folder / ERROR_FILE)
    if "message" not in failure:
        return ""
    return note(f"A failure is recorded: rank {failure.get('rank', '?')}: {failure['message']}")


def _figures(metrics: Metrics | None, evaluation: Evaluation | None) -> str:
    figures = []
    if evaluation is not None:
        figures += [(f"{100 * each.exact:.1f} %", f"exact match, {split}") for split, each in evaluation.splits.items()]
    if metrics is not None:
        figures += [
            (number_text(losses[-1][1]), f"evaluation loss, {split}") for split, losses in metrics.evaluations.items()
        ]
    if metrics is not None and metrics.steps:
        last, bad = metrics.steps[-1], sum(record.bad_payloads for record in metrics.steps)
        figures += [
            (number_text(last.loss), f"training loss at step {last.step}"),
            (count_text(median(record.tokens_per_second for record in metrics.steps)), "tokens per second, median"),
            (f"{number_text(median(record.step_seconds for record in metrics.steps))} s", "per step, median"),
            *([(str(bad), "bad payloads at logged steps")] if bad else []),
        ]
    skipped = () if metrics is None else metrics.skipped
    if skipped:
        figures.append((str(len(skipped)), f"{_steps(skipped)} skipped, not finite"))
    return f"{cards(figures) if figures else ''}{_skipped(skipped)}"


def _steps(steps: tuple[int, ...]) -> str:
    return "steps" if len(steps) > 1 else "step"


def _skipped(steps: tuple[int, ...]) -> str:
    if not steps:
        return ""
    named = format_ranks(steps).replace(",", ", ")
    return note(f"Not finite, and therefore skipped without an update: {_steps(steps)} {named}.")


def _samples(evaluation: Evaluation | None, pictures_of: Callable[[str], Pictures]) -> str:
    if evaluation is None:
        return note("Predictions are left out: the run has no evaluation.json; `counterpoint evaluate` writes it.")
    return "".join(
        section(
            f"Predictions on {split}",
            f"Greedy text at step {evaluation.step} for held-out samples. {each.num_exact} of {len(each.rows)} "
            f"({100 * each.exact:.1f} %) are exactly the true text; the grid takes samples at even distances, "
            "whatever their quality. Marked words differ from the truth.",
            sample_grid(partial(pictures_of, split), each.rows),
        )
        for split, each in evaluation.splits.items()
    )


def _curves(metrics: Metrics | None, modules: tuple[str, ...]) -> list[str]:
    if metrics is None or not (metrics.steps or metrics.evaluations):
        return [note("Curves are left out: the run has no metrics.jsonl with a logged step.")]
    torn = [note(f"{metrics.unreadable} lines of metrics.jsonl could not be read.")] if metrics.unreadable else []
    return [*curve_sections(metrics, modules), *torn]


def _setting(run_folder: Path, config: str) -> str:
    versions = read_strings(run_folder / VERSIONS_FILE)
    named = ", ".join(f"{package} {version}" for package, version in versions.items())
    return section(
        "Setting",
        "What ran, to run it again.",
        tag("p", words(named)) if named else note("Versions are left out: the run has no versions.json."),
        folded("Config with every key", config),
    )
