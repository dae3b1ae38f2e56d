"""Plans of configs whose tokenizer need not be there."""

from counterpoint.config.schema import Config
from counterpoint.plan.plan import Plan
from counterpoint.setup.plan import models_of, plan_of


def planned(config: Config, vocab: int | None = None) -> Plan:
    """The plan of a config whose tokenizer would have so many words."""
    return plan_of(config, models_of(config, vocab))
