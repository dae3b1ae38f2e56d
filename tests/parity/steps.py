# ruff: noqa: E501 (a table reads best with a case to a line)
"""Named ways to run a step: schedules, chunks, groups, what is trained, what runs ahead, what is computed again."""

from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.command import as_verified
from tests.parity.layouts import HYBRID, TINY, override, pair, ranks

ZERO_BUBBLE, FROZEN = {"schedule__kind": "zero_bubble"}, {"modules__vision__train": "none"}
PROJECTOR = {"modules__vision__train": ["projector.*"], "modules__language__train": "none"}


def colocated(count: int, **degrees: Any) -> dict[str, Any]:
    """A layout on the first ranks."""
    return {"ranks": ranks(0, count), **degrees}


STEPS: dict[str, dict[str, Any]] = {
    "interleaved": pair(2, colocated(2), colocated(2, pp=2, chunks=2), schedule__kind="interleaved", schedule__microbatches=4),
    "interleaved_ragged": pair(3, colocated(1), {"ranks": [0, 1, 2], "pp": 3, "chunks": 2}, schedule__kind="interleaved", schedule__microbatches=5),
    "interleaved_encoder": pair(2, colocated(2, pp=2, chunks=2), colocated(2, pp=2, chunks=3), schedule__kind="interleaved", schedule__microbatches=4),
    "chunks_on_one_place": pair(2, colocated(2, chunks=2), colocated(2, chunks=3, tp=2), modules__language__model__tied=False, schedule__microbatches=3),
    "zero_bubble": pair(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, schedule__microbatches=4, **ZERO_BUBBLE),
    "zero_bubble_interleaved_resharded": pair(4, colocated(4, pp=2, reshard=True), colocated(4, pp=2, chunks=2, reshard=True), schedule__microbatches=4, **ZERO_BUBBLE),
    "zero_bubble_tied_tp2": pair(4, colocated(4), colocated(4, tp=2), **ZERO_BUBBLE),
    "zero_bubble_tied_over_pp2": pair(4, colocated(4, cp=2), colocated(4, pp=2, cp=2), modules__language__model__tied=True, schedule__microbatches=3, **ZERO_BUBBLE),
    "group_of_2": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, schedule__microbatches=5, schedule__encoder_group=2),
    "group_of_3_fills_gaps": pair(4, colocated(4), colocated(4, pp=2, tp=2), schedule__microbatches=8, schedule__encoder_group=3, schedule__encoder="fill", schedule__buffer=1),
    "encoder_first": pair(4, colocated(4), colocated(4, pp=4), schedule__microbatches=6, schedule__encoder="first"),
    "filled": pair(4, colocated(4), colocated(4, pp=4), schedule__microbatches=6, schedule__kind="filled"),
    "filled_pp2_in_groups": pair(4, colocated(4, pp=2, reshard=True), colocated(4, pp=2, chunks=2), schedule__microbatches=5, schedule__kind="filled", schedule__encoder_group=2, schedule__buffer=2),
    "filled_frozen_ahead": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, schedule__kind="filled", schedule__microbatches=3, schedule__run_ahead=1, **FROZEN),
    "recomputed": pair(4, {"ranks": [0, 1], "reshard": True}, {"ranks": [2, 3], "tp": 2}, modules__language__recompute="full", modules__vision__recompute=["L"]),
    "recomputed_zero_bubble": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, modules__language__recompute=["*"], modules__vision__recompute="full", **ZERO_BUBBLE),
    "frozen_vision": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, **FROZEN),
    "frozen_vision_ahead": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, schedule__run_ahead=1, **FROZEN),
    "frozen_vision_2_ahead": pair(3, {"ranks": [0]}, {"ranks": [1, 2]}, schedule__run_ahead=2, **FROZEN),
    "frozen_vision_ahead_in_groups": pair(4, colocated(4, pp=2), colocated(4, pp=2, tp=2), schedule__run_ahead=1, schedule__encoder_group=2, schedule__microbatches=3, **FROZEN),
    "projector_only": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, **PROJECTOR),
    "projector_only_zero_bubble": pair(4, {"ranks": [0, 1], "pp": 2}, {"ranks": [2, 3], "pp": 2}, **PROJECTOR, **ZERO_BUBBLE),
    "projector_and_language": pair(4, colocated(4, tp=2), colocated(4, pp=2), modules__vision__train=["projector.*"], schedule__microbatches=4),
    "frozen_language": pair(4, {"ranks": [0, 1], "pp": 2}, {"ranks": [2, 3], "pp": 2}, modules__language__train="none", schedule__microbatches=4),
    "patterns": pair(4, colocated(4), colocated(4, pp=4), modules__language__train=["layers.[01].*", "norm.*"], schedule__microbatches=4),
    "tied_embedding_only": pair(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, modules__language__train=["embed.*"], modules__language__model__tied=True),
}  # fmt: skip

HYBRID_STEPS: dict[str, dict[str, Any]] = {
    "zero_bubble_ep4": pair(4, colocated(4), colocated(4, pp=1, tp=2, expert={"ep": 4}), **ZERO_BUBBLE),
    "zero_bubble_recomputed_interleaved": pair(4, colocated(4), colocated(4, pp=2, chunks=2, expert={"ep": 2}, reshard=True), modules__language__recompute="full", schedule__microbatches=4, **ZERO_BUBBLE),
    "frozen_router": pair(4, colocated(4), colocated(4, tp=2, expert={"ep": 2}), modules__language__train=["*.mamba.*", "*.experts.*", "head.*"]),
    "frozen_language": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "expert": {"ep": 2}}, modules__language__train="none", modules__language__recompute=["E", "M"]),
}  # fmt: skip


def step_config(name: str) -> Config:
    """The config of a named way to step the dense pair, in float64."""
    return as_verified(override(load_config(TINY), STEPS[name]), "float64")


def hybrid_step_config(name: str) -> Config:
    """The config of a named way to step the hybrid pair, in float64."""
    return as_verified(override(load_config(HYBRID), HYBRID_STEPS[name]), "float64")
