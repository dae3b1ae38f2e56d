"""Layouts of Parakeet's encoder of clips equal one process, in the layouts of Whisper's."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.pool import Pool
from tests.parity.layouts import override
from tests.parity.often import often
from tests.parity.speech import SPEECH, SPEECHES
from tests.parity.test_named_layouts import assert_equal

CONFORMER: dict[str, Any] = {
    "kind": "conformer", "layers": 4, "hidden": 24, "heads": 12, "ffn": 24, "mels": 8, "stem_channels": 3,
    "positions": 13, "conv": 3, "projector": {"kind": "mlp", "hidden": 24},
}  # fmt: skip
"""In place of the other encoder of clips; 250 milliseconds are four rows."""

CHANGES: dict[str, dict[str, Any]] = {
    "one_rank": {},
    "dp2_to_tp2": {"bias": False},
    "tp2": {},
    "tp2_without_sp": {"conv_bias": False, "scale_input": False},
    "cp2": {},
    "cp2_of_whole_clips": {},
    "cp4_of_one_clip": {},
    "pp2_zero_bubble": {},
    "colocated_tp2_cp2_recomputed": {},
    "no_clip_at_all": {},
    "most_without_clips": {},
    "frozen_but_for_its_projector": {},
}
"""By the name of a layout, what the model has there of its own."""


def conformer_config(name: str) -> Config:
    """The config of a named layout of images and clips with a conformer in it, in float64."""
    overrides = {key: value for key, value in SPEECHES[name].items() if not key.startswith("modules.audio.model")}
    config = override(load_config(SPEECH), overrides | {"modules.audio.model": CONFORMER | CHANGES[name]})
    return as_verified(config, "float64")


@pytest.mark.parametrize("name", often(CHANGES, 3))
def test_a_conformer_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, conformer_config(name)))
