"""What is registered and asked for wrongly is answered in one sentence."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import counterpoint
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from counterpoint.families.custom.registered import CUSTOM_MODULES
from counterpoint.families.custom.spec import CUSTOM
from tests.parity.brought import brought_base
from tests.parity.layouts import override, pair
from tests.unit.planned import planned

WRONG = [
    ("test_vit", {"modules.vision.model.name": "test_vut"}, r"model\.name: got \"test_vut\".* did you mean test_vit\?"),
    ("test_vit", {"modules.vision.model.name": "nothing"}, r"call counterpoint\.register_module where the script"),
    ("test_vit", {"modules.vision.layout": {"pp": 2}}, r"vision\.layout\.pp: got 2, expected 1, because a registered"),
    ("test_vit", {"modules.vision.layout": {"cp": 2}}, r"vision\.layout\.cp: got 2, expected 1, because a registered"),
    ("test_vit", {"modules.vision.layout": {"chunks": 2}}, r"vision\.layout\.chunks: got 2, expected 1"),
    ("test_vit", {"modules.vision.layout": {"split": [1]}}, r"vision\.layout\.split: got \[1\], expected even"),
    ("test_conv", {"modules.vision.layout": {"tp": 2}}, r"layout\.tp: got 2, expected 1, because test_conv .* without"),
    ("test_vit", {"modules.vision.layout": {"tp": 5}}, r"projector\.hidden: got 24, expected a multiple of"),
    (
        "test_vit",
        {"edges": [{"source": "vision", "target": "language", "depths": [{"after": 0, "into": 0}]}]},
        r"edges\.0\.depths: got 1 depths, expected none, because vision has no layers whose output rows",
    ),
    ("test_vit", {"modules.vision.recompute": ["*"]}, r"recompute\.0: got \"\*\", expected a kind of its layers, L"),
    ("test_vit", {"modules.vision.model.heads": 3}, r"model\.heads: got an unknown key"),
]


@pytest.mark.parametrize(("name", "overrides", "words"), WRONG)
def test_what_a_registered_module_cannot_do_is_one_sentence(name: str, overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(brought_base(name), overrides)


def _linear(_options: Mapping[str, Any]) -> nn.Module:
    return nn.Linear(1, 1)


def test_names_are_registered_once_and_are_names() -> None:
    with pytest.raises(ConfigError, match=r"got the name 'test_vit', which is taken"):
        counterpoint.register_module("test_vit", _linear)
    with pytest.raises(ConfigError, match=r"got the name 'Vit', expected lowercase"):
        counterpoint.register_module("Vit", _linear)
    with pytest.raises(ConfigError, match=r"got 'columns' for 'fc1', expected 'outputs' or 'inputs'"):
        counterpoint.register_module("test_columns", _linear, tensor_rules={"fc1": "columns"})  # type: ignore[dict-item]
    assert "test_columns" not in CUSTOM_MODULES


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers modules for one test."""
    monkeypatch.setattr(CUSTOM_MODULES, "_kinds", dict(CUSTOM_MODULES.items()))

    def register(name: str, *arguments: Any, **named: Any) -> Config:
        counterpoint.register_module(name, *arguments, **named)
        tree = brought_base("test_vit").resolved()
        tree["modules"]["vision"]["model"]["name"] = name
        return load_config(tree)

    return register


class Scalar(nn.Module):
    """A parameter without a dimension."""

    def __init__(self, _options: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def tied(_options: Any) -> nn.Module:
    """Two layers with one weight."""
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    layers[1].weight = layers[0].weight
    return layers


def test_what_cannot_be_built_or_sharded_is_refused_before_any_process(registered: Any) -> None:
    config = registered("test_asks", lambda options: nn.Linear(options["inputs"], 3))
    with pytest.raises(ConfigError, match=r"test_asks with options \{'width': 24\}: building it raised KeyError"):
        planned(config)
    with pytest.raises(ConfigError, match=r"got the parameter scale without a dimension"):
        planned(registered("test_scalar", Scalar))
    with pytest.raises(ConfigError, match=r"got the parameter 1\.weight under another name, too, expected each in one"):
        planned(registered("test_tied", tied))


def test_rules_fit_layers_and_tp_divides_them(registered: Any) -> None:
    def build(_options: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 6))

    config = registered("test_typo", build, tensor_rules={"[0]": "outputs", "fc2": "inputs"})
    with pytest.raises(ConfigError, match=r"test_typo: tensor_rules: got 'fc2', which fits no linear layer.*'0'"):
        planned(config)
    config = registered("test_nine", build, tensor_rules={"0": "outputs", "1": "inputs"})
    config = override(config, pair(2, {"ranks": [0, 1], "tp": 2}, {"ranks": [0, 1]}))
    with pytest.raises(ConfigError, match=r"vision\.layout\.tp: got 2 for the 9 outputs of 0, expected a divisor"):
        planned(config)


def test_weights_are_of_every_parameter_and_no_other(registered: Any) -> None:
    def build(_options: Any) -> nn.Module:
        return nn.Linear(2, 3)

    config = registered("test_half", build, weights=lambda _options: {"weight": torch.zeros(3, 2), "w": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"test_half: got \['w'\] beyond its parameters and none for \['bias'\]"):
        CUSTOM.given(config.modules["vision"].model)
