"""Rotary positions for longer documents."""

from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from counterpoint.layers.attention.rotary import Rotary
from counterpoint.layers.attention.spec import RopeScalingConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.segments import Segments

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"


def turned(positions: torch.Tensor, scaling: RopeScalingConfig | None) -> torch.Tensor:
    """Cosines and sines at some positions."""
    rows = len(positions)
    batch = TextBatch(positions, positions, positions, Segments.build([rows], rows), 1.0)
    return torch.cat(Rotary(8, 100.0, scaling=scaling).cos_sin(batch, torch.float64))


def test_without_positions_of_the_original_all_pairs_turn_slower() -> None:
    scaling = RopeScalingConfig(factor=8.0, original_positions=None)
    positions = torch.arange(40)
    found, expected = turned(positions * 8, scaling), turned(positions, None)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("scaling", "sentence"),
    [
        (
            {"original_positions": None, "low_freq_factor": 2.0},
            "low_freq_factor: got 2, expected the default, 1, because",
        ),
        ({"original_positions": None, "high_freq_factor": 2.0}, "high_freq_factor: got 2, expected the default, 4"),
        ({"low_freq_factor": 4.0}, "low_freq_factor: got 4, expected less than .*rope_scaling.high_freq_factor, 4"),
    ],
)
def test_factors_of_frequencies_belong_to_positions_of_the_original(scaling: dict[str, Any], sentence: str) -> None:
    data = load_config(TINY).resolved()
    data["modules"]["language"]["model"]["rope_scaling"] = {"factor": 8.0, **scaling}
    with pytest.raises(ConfigError, match=f"model.rope_scaling.{sentence}"):
        load_config(data)
