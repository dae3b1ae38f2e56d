"""Bounds of single keys that a rank would only meet when it runs."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "examples" / "synthetic_disjoint.yaml"


def test_a_synthetic_seed_has_64_bits() -> None:
    load_config(EXAMPLE, [f"data.train.0.synthetic.seed={2**64 - 1}"])
    with pytest.raises(ConfigError, match=r"synthetic.seed: got 18446744073709551616, expected at most 2\*\*64 - 1"):
        load_config(EXAMPLE, [f"data.train.0.synthetic.seed={2**64}"])


def test_no_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.workers: got 0, expected at least 1"):
        load_config(EXAMPLE, ["data.workers=0"])
