"""Which kinds of a module's layers are computed again."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.plan.activations import ActivationPolicy
from counterpoint.plan.plan import Plan
from counterpoint.setup.plan import activation_policy, models_of, plan_of, recomputed_kinds

PARITY = Path(__file__).parents[2] / "parity"


@pytest.mark.parametrize(
    ("recompute", "language", "vision"),
    [
        ("none", "", ""),
        ("full", "*-", "L"),
        (["L"], "", "L"),
        (["-"], "-", ""),
        (["norms", "-"], "-", ""),
        (["L", "activations"], "", "L"),
    ],
)
def test_layers_are_computed_again_by_their_kind(recompute: Any, language: str, vision: str) -> None:
    for module, kinds in (("language", language), ("vision", vision)):
        if isinstance(recompute, str) or kinds:
            data = load_config(PARITY / "tiny.yaml").resolved()
            data["modules"][module]["recompute"] = recompute
            assert recomputed_kinds(load_config(data), module) == frozenset(kinds)


def test_what_layers_keep_follows_from_three_keys() -> None:
    keys = {"recompute": ["-", "norms", "activations"], "recompute_keeps": ["attention"], "offload": True}
    config = load_config(PARITY / "tiny.yaml", [f"modules.language.{key}={value}" for key, value in keys.items()])
    expected = ActivationPolicy(frozenset({"norms", "activations"}), frozenset({"attention"}), True)
    assert activation_policy(config, "language") == expected
    assert activation_policy(config, "vision") == ActivationPolicy()


def _kept(*settings: str) -> dict[str, float]:
    """Elements of a row that each part keeps."""
    plan = _plan(*(f"modules.language.{setting}" for setting in settings))
    parts = plan.facts["language"].parts
    return {part.name: sum(one.elements for one in plan.kept("language", part.name)) for part in parts}


def _plan(*settings: str) -> Plan:
    config = load_config(PARITY / "tiny.yaml", list(settings))
    return plan_of(config, models_of(config, 512))


def test_the_estimate_counts_what_each_policy_keeps() -> None:
    model = _plan().facts["language"]
    attends = {part.name for part in model.parts if part.flops_per_pair}
    layers = {part.name for part in model.parts if part.kinds}
    everything, full = _kept(), _kept("recompute=full")
    with_attention = _kept("recompute=full", "recompute_keeps=[attention]")
    without_norms = _kept("recompute=[norms]")
    assert attends
    assert layers > attends
    for name in everything:
        assert full[name] == (model.hidden if name in layers else everything[name])
        assert (with_attention[name] > full[name]) is (name in attends)
        assert (everything[name] > without_norms[name]) is (name in layers)


def test_only_layers_wait_on_the_host() -> None:
    plan = _plan("modules.language.offload=true")
    parts = [part for part in plan.facts["language"].parts if plan.is_offloaded("language", part.name)]
    assert parts == [part for part in plan.facts["language"].parts if part.kinds]
    assert not any(plan.is_offloaded("vision", part.name) for part in plan.facts["vision"].parts)
