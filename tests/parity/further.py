# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Named layouts in which the language model predicts further tokens."""

from typing import Any

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.command import as_verified
from tests.parity.layouts import EP2, EP4, HYBRID, TINY, documents, override, pair, ranks
from tests.parity.steps import FROZEN, ZERO_BUBBLE, colocated

ONE, TWO = {"depths": 1, "pattern": "*-", "weight": 0.3}, {"depths": 2, "pattern": "*-", "weight": 0.5}
TIED = {"modules__language__model__tied": True}
EXPERTS = {"depths": 2, "pattern": "*E", "weight": 0.5}


def further(
    world: int, vision: dict[str, Any], language: dict[str, Any], mtp: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Overrides for both layouts and the depths of the language model."""
    return pair(world, vision, language, modules__language__model__mtp=mtp, **more)


FURTHER: dict[str, dict[str, Any]] = {
    "one_rank": further(1, {"ranks": [0]}, {"ranks": [0]}, TWO),
    "untied": further(2, {"ranks": [0]}, {"ranks": [1]}, TWO, modules__language__model__tied=False),
    "dp3_resharded": further(4, {"ranks": [0]}, {"ranks": ranks(1, 3), "reshard": True}, TWO),
    "pp2": further(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, TWO, schedule__microbatches=3),
    "tied_over_pp2": further(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, TWO, **TIED),
    "tied_over_pp2_tp2_dp2": further(8, colocated(8), colocated(8, pp=2, tp=2, reshard=True), ONE, **TIED),
    "tp2": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, TWO),
    "tp2_without_sp": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2, "sequence_parallel": False}, TWO),
    "tp2_pp2_without_sp": further(4, {"ranks": [0]}, {"ranks": ranks(0, 4), "tp": 2, "pp": 2, "sequence_parallel": False}, TWO),
    "cp2": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2}, TWO),
    "cp2_tp2_pp2_packed": further(8, colocated(8), colocated(8, cp=2, tp=2, pp=2), TWO, data__packing=True, training__global_batch_samples=11),
    "three_axes_of_positions": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2}, ONE, modules__language__model__rope_sections=[1, 1, 1]),
    "zero_bubble": further(4, colocated(4), colocated(4, pp=2, tp=2), TWO, schedule__microbatches=4, **ZERO_BUBBLE),
    "zero_bubble_tied_recomputed": further(4, colocated(4), colocated(4, pp=2), TWO, modules__language__recompute="full", schedule__microbatches=3, **TIED, **ZERO_BUBBLE),
    "interleaved": further(2, colocated(2), colocated(2, pp=2, chunks=2), TWO, schedule__kind="interleaved", schedule__microbatches=4),
    "chunks_tied": further(2, colocated(2), colocated(2, pp=2, chunks=3), ONE, schedule__kind="interleaved", schedule__microbatches=4, **TIED),
    "only_depths_trained": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, TWO, modules__language__train=["mtp.*"], **FROZEN),
    "depths_frozen": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, TWO, modules__language__train=["layers.*"]),
    "words_frozen": further(4, colocated(4), colocated(4, pp=2), TWO, modules__language__train=["mtp.*", "norm.*"], **TIED, **ZERO_BUBBLE),
    "words_only": further(3, {"ranks": [0]}, {"ranks": [1, 2], "pp": 2}, TWO, modules__language__train=["embed.*"]),
    "frozen_language": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "pp": 2}, TWO, modules__language__train="none"),
    "no_loss_token_at_all": further(3, {"ranks": [0]}, {"ranks": [1, 2]}, TWO, data__train=documents(without_loss=1.0)),
    "most_documents_shorter_than_the_depths": further(4, {"ranks": [0]}, {"ranks": ranks(1, 3), "pp": 3}, TWO | {"depths": 4},
        data__train=documents(text_tokens={"kind": "uniform", "low": 1, "high": 4}, images_per_document={"kind": "constant", "value": 0})),
    "more_cells_than_packs": further(4, {"ranks": [0]}, {"ranks": [1, 2, 3]}, TWO, schedule__microbatches=4, training__global_batch_samples=5),
}  # fmt: skip

FURTHER_HYBRIDS: dict[str, dict[str, Any]] = {
    "pp2_ep2": further(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "pp": 2, "expert": EP2}, EXPERTS),
    "tied_tp2_ep4": further(4, colocated(4), colocated(4, tp=2, expert=EP4), EXPERTS, **TIED),
    "cp2_ep2_mamba": further(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "cp": 2, "expert": EP2}, EXPERTS | {"pattern": "ME"}),
    "without_sp_ep4": further(4, {"ranks": [0]}, colocated(4, tp=2, sequence_parallel=False, expert=EP4), EXPERTS),
    "zero_bubble_recomputed": further(4, colocated(4), colocated(4, pp=2, chunks=2, expert=EP2, reshard=True), EXPERTS, modules__language__recompute="full", schedule__microbatches=4, **ZERO_BUBBLE),
    "experts_of_depths_alone": further(4, {"ranks": [0]}, {"ranks": [1, 2], "expert": EP2}, EXPERTS, modules__language__model__pattern="M*M*M*M", world__idle=[3]),
}  # fmt: skip


def further_config(name: str) -> Config:
    """The config of a named layout of the dense pair, in float64."""
    return as_verified(override(load_config(TINY), FURTHER[name]), "float64")


def further_hybrid_config(name: str) -> Config:
    """The config of a named layout of the hybrid pair, in float64."""
    return as_verified(override(load_config(HYBRID), FURTHER_HYBRIDS[name]), "float64")
