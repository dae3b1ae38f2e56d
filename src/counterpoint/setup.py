"""What a config sets up before any rank exists: its tokenizer, its proved plan, its data."""

from counterpoint.check.proof import check_plan
from counterpoint.config.schema import Config, DecoderConfig
from counterpoint.data.corpus import Corpus, open_corpus, open_tokenizer
from counterpoint.plan.build import build_plan, sizes_of
from counterpoint.plan.plan import Plan
from counterpoint.plan.sizes import DecoderSizes


def vocabulary(config: Config) -> int | None:
    """The tokenizer's number of ids where a model asks for it."""
    asks = any(isinstance(m.model, DecoderConfig) and m.model.vocab == "tokenizer" for m in config.modules.values())
    tokenizer = open_tokenizer(config) if asks else None
    return None if tokenizer is None else tokenizer.vocabulary


def prepare_plan(config: Config) -> Plan:
    """The plan of a config, proved; raises ConfigError, PlacementError or ProofError."""
    plan = build_plan(config, vocabulary(config))
    check_plan(plan)
    return plan


def prepare_run(config: Config) -> tuple[Plan, Corpus]:
    """The proved plan and the opened data of a config; raises DataError as well."""
    plan = prepare_plan(config)
    sizes = sizes_of(config, plan.sink, vocabulary(config))
    assert isinstance(sizes, DecoderSizes), "documents enter a decoder"
    return plan, open_corpus(config, open_tokenizer(config), sizes.vocab)
