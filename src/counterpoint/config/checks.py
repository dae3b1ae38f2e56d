"""What the types of single keys cannot say: how the sections of a configuration fit together."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from counterpoint.config.data import DataConfig, evaluation_names
from counterpoint.config.graph import graph_problems, modalities_of
from counterpoint.config.modules import module_problems
from counterpoint.config.schema import Config
from counterpoint.config.steps import step_problems
from counterpoint.errors import DataError
from counterpoint.optimizers.rates import LEARNING_RATES, LearningRateSection
from counterpoint.section.problem import Problem, show
from counterpoint.sources.entry import Entry

_PRECISIONS = (
    ("float32", "float32", "float32"),
    ("float64", "float64", "float64"),
    ("float32", "bfloat16", "float32"),
    ("float32", "bfloat16", "bfloat16"),
)
"""Dtypes of parameters, compute and reduction that go together."""


def config_problems(config: Config) -> list[Problem]:
    """The problems of the config alone: ranks are the placement's part."""
    return [
        *graph_problems(config),
        *(problem for name, module in config.modules.items() for problem in module_problems(name, module)),
        *step_problems(config),
        *_data_problems(config),
        *_training_problems(config),
        *_hub_problems(config),
        *_log_problems(config),
    ]


def check_files(config: Config) -> None:
    """Raise DataError naming every dataset and tokenizer of the config that is not there."""
    problems: list[Problem] = []
    for path, entry in _entries(config):
        problems += entry.missing(path)
    tokenizer = config.data.tokenizer
    if tokenizer is not None and not Path(tokenizer).is_file():
        remedy = "correct the path; counterpoint prepare writes tokenizer.json beside the index"
        problems.append(Problem("data.tokenizer", show(tokenizer), "a tokenizer file", remedy))
    if problems:
        raise DataError("\n".join(map(str, problems)))


def _data_problems(config: Config) -> Iterator[Problem]:
    data = config.data
    uses_tokenizer = [name for name, m in config.modules.items() if m.model.words == "tokenizer"]
    if uses_tokenizer and data.tokenizer is None:
        yield Problem(
            "data.tokenizer",
            "nothing",
            f"a file, because modules.{uses_tokenizer[0]}.model.vocab is tokenizer",
            "give the file or write the vocabulary's size",
        )
    for path, entry in _entries(config):
        yield from entry.problems(path, modalities_of(config))
        yield from _entry_problems(path, entry, data)
    for name, count in Counter(evaluation_names(data.evaluation)).items():
        if count > 1:
            yield Problem("data.evaluation", f"{name} {count} times", "every set once", "keep one of them")


def _entry_problems(path: str, entry: Entry, data: DataConfig) -> Iterator[Problem]:
    """Settings of one source that do not fit those of all."""
    if entry.sequence_tokens is not None and entry.sequence_tokens > data.sequence_tokens:
        expected = f"at most data.sequence_tokens, {data.sequence_tokens}"
        yield Problem(f"{path}.sequence_tokens", f"{entry.sequence_tokens}", expected, "lower it")
    if not entry.packing and not data.packing:
        yield Problem(f"{path}.packing", "false", "true, because data.packing is false for all", "leave it out")
    if data.epochs is not None and entry in data.train and entry.weight != 1:
        expected = "1, because in whole epochs every document is seen as often as any other"
        yield Problem(f"{path}.weight", f"{entry.weight:g}", expected, "leave it out, or data.epochs")


def _log_problems(config: Config) -> Iterator[Problem]:
    """Recorders that would write the same records into the same place."""
    recorders = config.log.recorders
    for number, section in enumerate(recorders):
        if section in recorders[:number]:
            first = recorders.index(section)
            expected = f"a recorder other than log.recorders.{first}"
            yield Problem(
                f"log.recorders.{number}", f"the same {section.kind} again", expected, "leave one of them out"
            )


def _hub_problems(config: Config) -> Iterator[Problem]:
    hub, saved = config.checkpoint.hub, config.checkpoint.every_steps
    if hub is not None and hub.every_steps is not None and (saved is None or hub.every_steps % saved):
        yield Problem(
            "checkpoint.hub.every_steps",
            f"{hub.every_steps}",
            "null, since checkpoint.every_steps is"
            if saved is None
            else f"a multiple of checkpoint.every_steps, {saved}",
            "set checkpoint.every_steps, or leave this key out to export the last step alone",
        )


def _training_problems(config: Config) -> Iterator[Problem]:
    training = config.training
    if config.schedule.microbatches > training.global_batch_samples:
        yield Problem(
            "schedule.microbatches",
            f"{config.schedule.microbatches}",
            f"at most training.global_batch_samples, {training.global_batch_samples}",
            "lower it or raise the batch",
        )
    precision = training.precision
    got = (precision.parameters, precision.compute, precision.reduce)
    if got not in _PRECISIONS:
        allowed = " or ".join("/".join(names) for names in _PRECISIONS)
        yield Problem(
            "training.precision",
            "/".join(got),
            f"{allowed} (parameters/compute/reduce)",
            "choose one of these",
        )
    for name, module in config.modules.items():
        where = f"modules.{name}.optimizer"
        schedules: dict[str, LearningRateSection | None] = {where: module.optimizer.schedule}
        schedules |= {f"{where}.groups.{n}": group.schedule for n, group in enumerate(module.optimizer.groups)}
        for at, schedule in schedules.items():
            if schedule is not None:
                yield from LEARNING_RATES[schedule.kind].problems(f"{at}.schedule", schedule)


def _entries(config: Config) -> Iterator[tuple[str, Entry]]:
    for key, entries in (("train", config.data.train), ("evaluation", config.data.evaluation)):
        for i, entry in enumerate(entries):
            yield f"data.{key}.{i}", entry
