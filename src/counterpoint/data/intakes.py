"""How items enter the modules of a config that take some."""

from counterpoint.config.graph import marks_of
from counterpoint.config.schema import Config
from counterpoint.families import intake_of
from counterpoint.kinds.modality import Intakes


def intakes_of(config: Config) -> Intakes:
    """How items become rows in each module that takes some."""
    found = {name: intake_of(name, config.modules[name].model, mark) for name, mark in marks_of(config).items()}
    return {name: intake for name, intake in found.items() if intake is not None}
