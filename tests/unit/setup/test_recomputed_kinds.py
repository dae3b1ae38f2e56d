"""Which kinds of a module's layers are computed again."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.setup.plan import recomputed_kinds

PARITY = Path(__file__).parents[2] / "parity"


@pytest.mark.parametrize(
    ("recompute", "language", "vision"), [("none", "", ""), ("full", "*-", "L"), (["L"], "", "L"), (["-"], "-", "")]
)
def test_layers_are_computed_again_by_their_kind(recompute: Any, language: str, vision: str) -> None:
    for module, kinds in (("language", language), ("vision", vision)):
        if isinstance(recompute, str) or kinds:
            data = load_config(PARITY / "tiny.yaml").resolved()
            data["modules"][module]["recompute"] = recompute
            assert recomputed_kinds(load_config(data), module) == frozenset(kinds)
