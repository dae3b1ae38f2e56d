"""The keys of kinds that a plug-in brings are explained, and in the schema, where it is asked for."""

from counterpoint.plugins.load import load_plugins
from counterpoint.reference.explain_key import explain_key
from counterpoint.reference.json_schema import json_schema
from tests.unit.plugins.conftest import Install

CURVE = '''
from typing import Literal

from counterpoint.optimizers.rates import LearningRateSection, RateKind
from counterpoint.plugins.plugin import Plugin
from counterpoint.section.section import Positive

class FallingSection(LearningRateSection):
    """A fall by a power."""

    kind: Literal["falling"]
    power: Positive = 2.0
    """How steep the fall is. No unit."""
    speed: Positive = 1.0

FALLING = RateKind(section=FallingSection, left=lambda section, step, steps: (1.0 - step / steps) ** section.power)
PLUGIN = Plugin(learning_rates={"falling": FALLING})
'''
KEY = "modules.x.optimizer.schedule.power"


def test_keys_of_a_plugin_are_explained(install: Install) -> None:
    install("brought-curve", CURVE)
    load_plugins(["brought-curve"], "--plugin")
    said = explain_key(KEY)
    assert said.splitlines()[:2] == [f"{KEY}, of kind falling", "    How steep the fall is."]
    assert "of kind falling: A fall by a power." in explain_key("modules.x.optimizer.schedule", "falling")
    # A key that nothing is said of is there all the same.
    assert "default: 1.0" in explain_key("modules.x.optimizer.schedule.speed")
    assert json_schema()["$defs"]["FallingSection"]["properties"]["power"]["exclusiveMinimum"] == 0
