"""What a config sets up before any rank exists: its tokenizer, its proved plan, its data."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from counterpoint.check.proof import check_plan
from counterpoint.config.checks import check_files
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import ConfigError
from counterpoint.launch import is_joined
from counterpoint.plan.plan import Plan
from counterpoint.plugins.load import load_plugins
from counterpoint.recorders import RECORDERS
from counterpoint.section.problem import show
from counterpoint.setup.data import open_corpus, open_tokenizer
from counterpoint.setup.plan import FEWEST_COMPILED_STEPS, Models, models_of, placement_of, plan_of
from counterpoint.sources.census import check_census


class Setup(NamedTuple):
    """What a config sets up: its plan, its models by module, and its data."""

    plan: Plan
    models: Models
    corpus: Corpus


def load_settled(path: Path, overrides: Sequence[str]) -> Config:
    """A config as training reads it: with the sizes of items that warm starts settle."""
    config = load_config(path, overrides)
    if any(module.init_from is not None for module in config.modules.values()):
        from counterpoint.setup.settle import settle_items

        config = settle_items(config)
    return config


def build_plan(config: Config) -> Plan:
    """The plan of a config, not yet proved; raises ConfigError, PlacementError, or DataError for its tokenizer."""
    load_plugins(config.run.plugins)  # Another config may have been loaded since.
    return plan_of(config, build_models(config))


def build_models(config: Config) -> Models:
    """The models of a config; raises ConfigError, or DataError for its tokenizer."""
    return models_of(config, _words(config, open_tokenizer(config)) if _asks(config) else None)


def prepare_run(config: Config) -> Setup:
    """The proved plan, the models and the opened data of a config; raises DataError and ProofError as well."""
    setup = open_run(config)
    check_plan(setup.plan)
    return setup


def open_run(config: Config) -> Setup:
    """The same without the proof, for a rank whose plan another process has proved."""
    # The placement needs no file, and a missing file must not hide an error in it.
    placement_of(config)
    check_files(config)
    tokenizer = open_tokenizer(config)
    models = models_of(config, _words(config, tokenizer))
    plan = plan_of(config, models)
    return Setup(
        plan, models, open_corpus(config, tokenizer, plan.facts[plan.sink].vocab, plan.facts[plan.sink].extra_depths)
    )


def check_data(config: Config, corpus: Corpus) -> None:
    """Raise DataError for a dataset from which nothing, or less than `data.max_lost` allows, can be learned."""
    for name, census in corpus.censuses():
        check_census(f"data, {name}", census, config.data.max_lost)


def device_type(config: Config) -> str:
    """`cuda` or `cpu`: what the config says, else CUDA if there is one."""
    import torch

    if config.run.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.run.device


def is_compiled(config: Config) -> bool:
    """Whether layers are compiled: as the config says, or, if it leaves that open, on GPUs, in trainings that are long
    enough and need not be deterministic."""
    if config.training.compile != "auto":
        return config.training.compile
    is_worth_it = config.training.steps >= FEWEST_COMPILED_STEPS and not config.run.deterministic
    return is_worth_it and device_type(config) == "cuda"


def check_device(config: Config) -> None:
    """Raise ConfigError if this machine lacks the config's device, or the device a dtype of the config."""
    import torch

    if config.run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device: got 'cuda' on a machine without a usable GPU, expected one; set run.device=cpu")
    if not is_joined(os.environ) and device_type(config) == "cuda" and torch.cuda.device_count() < config.world.size:
        raise ConfigError(
            f"world.size: got {config.world.size} with {torch.cuda.device_count()} GPUs on this machine, expected one "
            "GPU a rank; lower world.size, start ranks on more machines with torchrun, or set run.device=cpu"
        )


def check_recorders(config: Config) -> None:
    """Raise ConfigError for a recorder whose library is not installed here."""
    for number, section in enumerate(config.log.recorders):
        kind = RECORDERS[section.kind]
        missing = [module for module in kind.needs if not _is_installed(module)]
        if missing:
            raise ConfigError(
                f"log.recorders.{number}.kind: got {show(section.kind)} without the package {missing[0]}, expected it "
                f"to be installed; {kind.install or f'install {missing[0]}'}, or remove the recorder"
            )


def _is_installed(module: str) -> bool:
    """Whether a module can be imported; a folder of that name in the working directory does not count."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def _asks(config: Config) -> bool:
    """Whether a model's vocabulary is the tokenizer's."""
    return any(module.model.words == "tokenizer" for module in config.modules.values())


def _words(config: Config, tokenizer: Tokenizer | None) -> int | None:
    return tokenizer.vocabulary if tokenizer is not None and _asks(config) else None
