"""Losses beside the main one, as a config names them."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from tests.parity.layouts import TINY


def config(**losses: list[dict[str, Any]]) -> Config:
    """The tiny pair with these losses of its modules."""
    data = load_config(TINY).resolved()
    for module, sections in losses.items():
        data["modules"][module]["losses"] = sections
    return load_config(data)


def test_there_are_none_by_default() -> None:
    assert [module.losses for module in load_config(TINY).modules.values()] == [(), ()]


def test_a_loss_has_its_papers_weight() -> None:
    (section,) = config(language=[{"kind": "z_loss"}]).modules["language"].losses
    assert (section.kind, section.weight) == ("z_loss", 1e-4)


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        (
            {"language": [{"kind": "zloss"}]},
            'modules.language.losses.0.kind: got "zloss", expected one of "z_loss", "regression", "contrastive"',
        ),
        (
            {"language": [{"kind": "z_loss"}, {"kind": "z_loss"}]},
            "modules.language.losses: got 2 of kind z_loss, expected one; keep one of them",
        ),
        (
            {"vision": [{"kind": "z_loss"}]},
            "modules.vision.losses.0.kind: got z_loss, expected one of regression, contrastive, because modules.vision "
            "makes rows of items; move it to another module or leave it out",
        ),
        (
            {"language": [{"kind": "regression", "targets": "a"}]},
            "modules.language.losses.0.kind: got regression, expected one of z_loss, because modules.language makes "
            "scores of words",
        ),
        (
            {"vision": [{"kind": "regression"}]},
            "modules.vision.losses.0.targets: got nothing, expected",
        ),
        (
            {"vision": [{"kind": "regression", "targets": "../a"}]},
            'modules.vision.losses.0.targets: got "../a", expected a name of lowercase letters, digits and _',
        ),
        (
            {"language": [{"kind": "z_loss", "weight": 0.0}]},
            "modules.language.losses.0.weight: got 0.0, expected",
        ),
    ],
)
def test_what_does_not_fit_is_refused(losses: dict[str, list[dict[str, Any]]], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**losses)
    assert sentence in str(raised.value)


def test_a_module_that_no_gradient_reaches_has_none() -> None:
    data = load_config(TINY).resolved()
    data["modules"]["vision"] |= {"train": "none", "losses": [{"kind": "regression", "targets": "a"}]}
    with pytest.raises(ConfigError, match="none, because nothing of vision, or of what it reads, is trained"):
        load_config(data)
