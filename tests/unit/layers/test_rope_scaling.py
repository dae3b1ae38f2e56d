"""Rotary positions for longer documents."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from counterpoint.layers.attention.rope import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeScalingSection,
    YarnScaling,
)
from counterpoint.layers.attention.rotary import Rotary
from counterpoint.models.batch import TextBatch
from counterpoint.models.segments import Segments

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"
LONG = LongScaling(
    kind="longrope", original_positions=16, short_factors=(1.0, 2.0, 3.0, 4.0), long_factors=(5.0, 6.0, 7.0, 8.0),
    attention_factor=1.5,
)  # fmt: skip
DYNAMIC = DynamicScaling(kind="dynamic", factor=2.0, original_positions=16)


def cos_sin(positions: Tensor, scaling: RopeScalingSection | None, extents: Tensor | None = None) -> Tensor:
    """Cosines and sines (2, rows, 4) at some positions."""
    rows = len(positions)
    batch = TextBatch(positions, positions, positions, Segments.build([rows], rows), 1.0, extents=extents)
    return torch.stack(Rotary(8, 100.0, scaling=scaling).cos_sin(batch, torch.float64)).squeeze(2)


def test_linear_scaling_slows_all_pairs() -> None:
    scaling = LinearScaling(kind="linear", factor=8.0)
    positions = torch.arange(40)
    found, expected = cos_sin(positions * 8, scaling), cos_sin(positions, None)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scaling", [LONG, DYNAMIC], ids=lambda scaling: scaling.kind)
def test_a_packed_document_has_the_angles_that_it_has_alone(scaling: RopeScalingSection) -> None:
    lengths = (5, 16, 17, 40)
    alone = [cos_sin(torch.arange(n), scaling, torch.full((n,), n)) for n in lengths]
    positions = torch.cat([torch.arange(n) for n in lengths])
    extents = torch.cat([torch.full((n,), n) for n in lengths])
    assert torch.equal(cos_sin(positions, scaling, extents), torch.cat(alone, dim=1))
    assert not torch.equal(alone[2][:, :5], alone[0])
    assert torch.equal(alone[1][:, :5], alone[0])


def test_only_longer_documents_than_the_original_ones_have_another_base() -> None:
    positions = torch.arange(17)
    plain, short, long = (
        cos_sin(positions, scaling, torch.full((17,), n)) for scaling, n in ((None, 1), (DYNAMIC, 16), (DYNAMIC, 17))
    )
    assert torch.equal(short, plain)
    # (2 x 17 / 16 - 1) to the power 8 / 6.
    base = 100.0 * (2 * 17 / 16 - 1) ** (8 / 6)
    angle = positions[:, None] * base ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    assert torch.allclose(long, torch.stack((angle.cos(), angle.sin())), rtol=0, atol=1e-14)


def test_yarn_keeps_fast_pairs_and_slows_slow_ones() -> None:
    """Of 32 pairs with base 10000 and 64 original positions those up to pair 5 rotate more than 2 times, and those from
    pair 21 on less than 0.03 times."""
    scaling = YarnScaling(
        kind="yarn", factor=4.0, original_positions=64, beta_fast=2.0, beta_slow=0.03, attention_factor=1.0
    )
    one = torch.ones(1, dtype=torch.int64)
    batch = TextBatch(one, one, one, Segments.build([1], 1), 1.0)
    cosine, sine = Rotary(64, 1e4, scaling=scaling).cos_sin(batch, torch.float64)
    plain = 1e4 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    slowed = plain / torch.atan2(sine, cosine).flatten()
    assert torch.allclose(slowed[:6], torch.ones(6, dtype=torch.float64))
    assert torch.allclose(slowed[21:], torch.full((11,), 4.0, dtype=torch.float64))
    assert (slowed.diff()[5:20] > 0).all()


def test_the_attention_factor_of_yarn_is_the_papers() -> None:
    scaling = YarnScaling(kind="yarn", factor=16.0, original_positions=64)
    assert scaling.attention == pytest.approx(1.2772588722239782)
    found = cos_sin(torch.zeros(1, dtype=torch.int64), scaling)
    assert found[0].eq(scaling.attention).all()


def section_of(scaling: dict[str, Any] | None, **keys: Any) -> Any:
    """The language model's section with this scaling."""
    data = load_config(TINY).resolved()
    data["modules"]["language"]["model"] |= {"rope_scaling": scaling, **keys}
    return load_config(data).modules["language"].model


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"factor": 8.0, "original_positions": None}, LinearScaling(kind="linear", factor=8.0)),
        (
            {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_positions": None},
            LinearScaling(kind="linear", factor=8.0),
        ),
        ({"factor": 8.0}, Llama3Scaling(kind="llama3", factor=8.0)),
        (
            {"factor": 8.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0, "original_positions": 64},
            Llama3Scaling(kind="llama3", factor=8.0, low_freq_factor=2.0, high_freq_factor=3.0, original_positions=64),
        ),
    ],
)
def test_sections_from_before_there_were_kinds_are_read(scaling: dict[str, Any], expected: RopeScalingSection) -> None:
    assert section_of(scaling).rope_scaling == expected
    assert section_of(expected.model_dump()).rope_scaling == expected


@pytest.mark.parametrize(
    ("scaling", "keys", "sentence"),
    [
        ({"factor": 8.0, "original_positions": None, "low_freq_factor": 2.0}, {}, "rope_scaling.low_freq_factor"),
        (
            {"factor": 8.0, "low_freq_factor": 4.0},
            {},
            "low_freq_factor: got 4, expected less than .*rope_scaling.high_freq_factor, 4",
        ),
        ({"kind": "dynamic", "factor": 2.0}, {}, "rope_scaling.original_positions: got nothing"),
        ({"kind": "ntk", "factor": 2.0}, {}, 'rope_scaling.kind: got "ntk", expected "linear", "dynamic", "yarn"'),
        (
            {"kind": "yarn", "factor": 2.0, "original_positions": 8, "beta_fast": 0.5},
            {},
            "beta_slow: got 1, expected less than .*beta_fast, 0.5",
        ),
        (
            {"kind": "yarn", "factor": 2.0, "original_positions": 8},
            {"rope_theta": 1.0},
            "model.rope_theta: got 1, expected more than 1",
        ),
        (
            {"kind": "dynamic", "factor": 2.0, "original_positions": 8},
            {"rope_width": 2},
            "kind: got dynamic with 2 columns, expected at least 4",
        ),
        (
            {"kind": "longrope", "original_positions": 8, "short_factors": [1.0, 2.0], "long_factors": [1.0, 2.0, 3.0]},
            {},
            "short_factors: got 2 factors, expected one for each of the 3 pairs",
        ),
        (None, {"rope_width": 3}, "rope_width: got 3, expected an even width"),
        (None, {"rope_width": 8}, "rope_width: got 8, expected at most the width of a head, 6"),
        (None, {"rope_width": 4, "rope_theta": None}, "rope_width: got 4, expected null"),
        (None, {"rope_width": 4, "rope_sections": [1, 1, 1]}, "expected the 2 pairs of a head of width 4, rope_width"),
    ],
)
def test_keys_that_do_not_fit_are_refused(scaling: dict[str, Any] | None, keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        section_of(scaling, **keys)
