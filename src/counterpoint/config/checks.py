"""What the types of single keys cannot say: how the sections of a configuration fit together."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from counterpoint.config.data import PreparedEntry, SyntheticEntry, evaluation_names, largest, smallest
from counterpoint.config.graph import graph_problems, modalities_of
from counterpoint.config.modules import module_problems
from counterpoint.config.schema import Config, Distribution
from counterpoint.config.steps import step_problems
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Modality
from counterpoint.modalities import MODALITIES
from counterpoint.section.problem import Problem, show

_PRECISIONS = (
    ("float32", "float32", "float32"),
    ("float64", "float64", "float64"),
    ("float32", "bfloat16", "float32"),
    ("float32", "bfloat16", "bfloat16"),
)
"""Dtypes of parameters, compute and reduction that go together."""

_LARGEST_SEED = 2**64 - 1
"""A document's random streams are keyed with 64 bits of it."""


def config_problems(config: Config) -> list[Problem]:
    """The problems of the config alone: ranks are the placement's part."""
    return [
        *graph_problems(config),
        *(problem for name, module in config.modules.items() for problem in module_problems(name, module)),
        *step_problems(config),
        *_data_problems(config),
        *_training_problems(config),
    ]


def check_files(config: Config) -> None:
    """Raise DataError naming every dataset and tokenizer of the config that is not there."""
    problems = []
    for path, entry in _entries(config):
        if isinstance(entry, PreparedEntry) and not (Path(entry.path) / "index.json").is_file():
            remedy = f"write one with: counterpoint prepare SOURCE {entry.path}"
            problems.append(Problem(f"{path}.path", show(entry.path), "a folder with a prepared index", remedy))
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
        if isinstance(entry, SyntheticEntry):
            yield from _synthetic_problems(f"{path}.synthetic", entry, modalities_of(config))
    for name, count in Counter(evaluation_names(data.evaluation)).items():
        if count > 1:
            yield Problem("data.evaluation", f"{name} {count} times", "every set once", "keep one of them")


def _synthetic_problems(path: str, entry: SyntheticEntry, taken: Mapping[str, Modality]) -> Iterator[Problem]:
    synthetic, values = entry.synthetic, dict(entry.synthetic)
    drawn = [modality.drawing for modality in MODALITIES.values()]
    keys = ["text_tokens", *(key for drawing in drawn for key in (drawing.number, *drawing.sizes))]
    distributions: dict[str, Distribution] = {key: values[key] for key in keys}
    for key, distribution in distributions.items():
        low, high = smallest(distribution), largest(distribution)
        if low > high:
            yield Problem(f"{path}.{key}.low", f"{low}", f"at most {key}.high, {high}", "swap or correct them")
        if not key.endswith("_per_document") and low < 1:
            yield Problem(f"{path}.{key}", f"a smallest value of {low}", "at least 1", "raise low or value")
    if synthetic.seed > _LARGEST_SEED:
        yield Problem(
            f"{path}.seed", f"{synthetic.seed}", f"at most 2**64 - 1, {_LARGEST_SEED}", "choose a smaller one"
        )
    for modality in MODALITIES.values():
        number, without = values[modality.drawing.number], values[modality.drawing.without]
        if largest(number) and without < 1 and modality not in taken.values():
            yield Problem(
                f"{path}.{modality.drawing.number}",
                f"up to {largest(number)}",
                f"0, because no module reads {modality.plural}",
                f"add {modality.taker} or leave the key out",
            )
    encoders = [name for modality in MODALITIES.values() for name, own in taken.items() if own == modality]
    for key, shares in (("modules", synthetic.modules), ("without", synthetic.without)):
        for name in shares:
            if name not in encoders:
                known = f"a module that takes items: {', '.join(encoders) or 'there is none'}"
                yield Problem(f"{path}.{key}.{name}", show(shares[name]), known, "correct or remove it")


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
        schedule = module.optimizer.schedule
        if schedule.decay_steps is not None and schedule.decay_steps <= schedule.warmup_steps:
            yield Problem(
                f"modules.{name}.optimizer.schedule.decay_steps",
                f"{schedule.decay_steps}",
                f"more than warmup_steps, {schedule.warmup_steps}",
                "raise it or shorten the warm-up",
            )


def _entries(config: Config) -> Iterator[tuple[str, PreparedEntry | SyntheticEntry]]:
    for key, entries in (("train", config.data.train), ("evaluation", config.data.evaluation)):
        for i, entry in enumerate(entries):
            yield f"data.{key}.{i}", entry
