"""What a config sets up before any rank exists: its tokenizer, its proved plan, its data."""

import os

from counterpoint.check.proof import check_plan
from counterpoint.config.checks import check_files
from counterpoint.config.schema import Config, DecoderConfig
from counterpoint.data.corpus import Corpus, open_corpus, open_tokenizer
from counterpoint.data.tokenizer import Tokenizer
from counterpoint.errors import ConfigError
from counterpoint.launch import is_joined
from counterpoint.plan.build import build_plan as build_plan_of
from counterpoint.plan.build import placement_of
from counterpoint.plan.plan import Plan
from counterpoint.sources.census import check_census


def vocabulary(config: Config) -> int | None:
    """The tokenizer's number of ids where a model asks for it."""
    return _words(config, open_tokenizer(config)) if _asks(config) else None


def build_plan(config: Config) -> Plan:
    """The plan of a config, not yet proved; raises ConfigError, PlacementError, or DataError for its tokenizer."""
    return build_plan_of(config, vocabulary(config))


def prepare_run(config: Config) -> tuple[Plan, Corpus]:
    """The proved plan and the opened data of a config; raises DataError and ProofError as well."""
    plan, corpus = open_run(config)
    check_plan(plan)
    return plan, corpus


def open_run(config: Config) -> tuple[Plan, Corpus]:
    """The same for a rank of whose plan another process has the proof."""
    # Who is where needs no file, and a missing one must not hide what is wrong with it.
    placement_of(config)
    check_files(config)
    tokenizer = open_tokenizer(config)
    words = _words(config, tokenizer)
    plan = build_plan_of(config, words)
    return plan, open_corpus(config, tokenizer, plan.facts[plan.sink].vocab)


def check_data(config: Config, corpus: Corpus) -> None:
    """Raise DataError for a dataset of which nothing, or less than `data.max_lost` allows, can be learned."""
    for name, census in corpus.censuses():
        check_census(f"data, {name}", census, config.data.max_lost)


def device_type(config: Config) -> str:
    """`cuda` or `cpu`: what the config says, or CUDA where there is one."""
    import torch

    if config.run.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.run.device


def check_device(config: Config) -> None:
    """Raise ConfigError if the config asks for a device or a dtype on it that this machine does not have."""
    import torch

    if config.run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device: got 'cuda' on a machine without a usable GPU, expected one; set run.device=cpu")
    if not is_joined(os.environ) and device_type(config) == "cuda" and torch.cuda.device_count() < config.world.size:
        raise ConfigError(
            f"world.size: got {config.world.size} with {torch.cuda.device_count()} GPUs on this machine, expected one "
            "GPU a rank; lower world.size, start ranks on more machines with torchrun, or set run.device=cpu"
        )


def _asks(config: Config) -> bool:
    """Whether a model has as many words as the tokenizer."""
    return any(isinstance(m.model, DecoderConfig) and m.model.vocab == "tokenizer" for m in config.modules.values())


def _words(config: Config, tokenizer: Tokenizer | None) -> int | None:
    return tokenizer.vocabulary if tokenizer is not None and _asks(config) else None
