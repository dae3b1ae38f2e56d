"""Patterns of an optimizer that fit no parameter are refused before anything starts."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from counterpoint.setup.run import build_plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"
MUON = "modules.language.optimizer={kind: muon, lr: 1.0e-3, adamw_for: [%s]}"


def test_a_pattern_of_adamw_for_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan(load_config(EXAMPLE, [MUON % "embed.*, 'layers.0.atention.q.weight'"]))
    assert str(caught.value) == (
        "modules.language.optimizer.adamw_for.1: got 'layers.0.atention.q.weight', which fits no parameter of the "
        "module, expected a pattern of names like 'layers.0.attention.q.weight'; correct it or remove it"
    )


@pytest.mark.parametrize("patterns", ["", "'*_conv.*', '*router*'", "'*.attention.*', 'layers.2.norm.weight'"])
def test_defaults_and_patterns_that_fit_are_taken(patterns: str) -> None:
    """A default is for all models, so not all of them have a parameter for it."""
    build_plan(load_config(EXAMPLE, [MUON % patterns]))
