"""What weight decay spares."""

import pytest

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.adamw.update import is_exempt


@pytest.mark.parametrize(
    ("name", "dims", "exempt"),
    [
        ("layers.0.mlp.up.weight", 2, False),
        ("layers.0.mlp.up.bias", 1, True),
        ("layers.0.norm.weight", 1, True),
        ("embed.weight", 2, True),
        ("head.weight", 2, False),
        ("any.vector", 1, True),
        ("any.scalar", 0, True),
    ],
)
def test_what_weight_decay_spares(name: str, dims: int, exempt: bool) -> None:
    assert is_exempt(AdamWSection(lr=1.0), name, dims) is exempt


def test_given_patterns_replace_the_usual_ones() -> None:
    config = AdamWSection(lr=1.0, no_decay=("head.*",))
    assert is_exempt(config, "head.weight", 2)
    assert not is_exempt(config, "embed.weight", 2)
