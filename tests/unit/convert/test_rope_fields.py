"""What a config.json says twice of rotary positions, and sections that a head has too few pairs for."""

import pytest

from counterpoint.convert.fields import Fields
from counterpoint.convert.rope import Rope
from counterpoint.layers.attention.rope import Llama3Scaling

AXES = (24, 20, 20)


def rope(values: dict[str, object], head_dim: int = 12, *, interleaved: bool = True) -> Rope:
    return Rope(Fields(values, "config.json"), head_dim, AXES, interleaved=interleaved)


@pytest.mark.parametrize("section", ["rope_scaling", "rope_parameters"])
def test_the_section_wins_over_the_key_around_it(section: str) -> None:
    assert rope({"rope_theta": 7.0, section: {"rope_theta": 500.0}}).theta == 500.0
    assert rope({"rope_theta": 7.0, section: {"rope_type": "default"}}).theta == 7.0


def test_height_and_width_take_every_third_pair_as_far_as_there_are_any() -> None:
    """Of pairs 0 to 5 those of height are 1 and 4, of width 2 and 5, as transformers picks them."""
    assert rope({"rope_parameters": {"mrope_section": [1, 9, 9]}}).sections == (2, 2, 2)
    assert rope({"rope_parameters": {"mrope_section": [4, 1, 1]}}).sections == (4, 1, 1)
    assert rope({}).sections == (2, 2, 2)
    assert rope({}, head_dim=14).sections == (3, 2, 2)


def test_the_scaling_for_long_documents_is_read_number_by_number() -> None:
    """No two of them are alike, and none follows from another."""
    stated = {"factor": 8.0, "low_freq_factor": 1.5, "high_freq_factor": 5.0, "original_max_position_embeddings": 64}
    scaling = rope({"rope_scaling": {"rope_type": "llama3", **stated}}).scaling
    assert scaling == Llama3Scaling(
        kind="llama3", factor=8.0, low_freq_factor=1.5, high_freq_factor=5.0, original_positions=64
    )
