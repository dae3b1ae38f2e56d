# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Losses beside the main one, under every kind of parallelism that touches them, equal one plain process."""

from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine, Evaluated, StepResult
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.spare import is_spare
from tests.parity.layouts import LAYOUTS, TINY, override, pair, ranks
from tests.parity.test_named_layouts import assert_equal

Z = {"modules.language.losses": [{"kind": "z_loss", "weight": 0.3}]}
AHEAD = {"modules.language.model.mtp": {"depths": 2, "pattern": "*-", "weight": 0.5}}

OF_SCORES: dict[str, dict[str, Any]] = {
    "tp2": LAYOUTS["dp2_to_tp2"],
    "words_of_padding": pair(5, {"ranks": [0]}, {"ranks": ranks(1, 4), "tp": 4}, modules__language__model__vocab=9),
    "cp2_pp2_zero_bubble": pair(4, {"ranks": [0, 1]}, {"ranks": ranks(0, 4), "cp": 2, "pp": 2}, schedule__kind="zero_bubble"),
    "further_tokens_tp2_pp2": pair(4, {"ranks": [0]}, {"ranks": ranks(0, 4), "tp": 2, "pp": 2, "sequence_parallel": False}) | AHEAD,
    "some_without_loss": LAYOUTS["some_without_loss"],
    "no_loss_token_at_all": LAYOUTS["no_loss_token_at_all"],
}  # fmt: skip


def of(what: str) -> dict[str, Any]:
    """Regression of the rows, or of the means, of images, beside a loss of scores."""
    regression = {"kind": "regression", "weight": 0.3, "targets": "drawn", "of": what}
    return {"modules.vision.losses": [regression], **Z}


def contrast(form: str) -> dict[str, Any]:
    """Images against the targets of all images of the global batch."""
    section = {"kind": "contrastive", "weight": 0.3, "targets": "other", "form": form, "scale": 3.0, "bias": -1.0}
    return {"modules.vision.losses": [section]}


ROWS, ITEMS, SIGMOID, SOFTMAX = of("rows"), of("items"), contrast("sigmoid"), contrast("softmax")

OF_ITEMS: dict[str, dict[str, Any]] = {
    "rows_tp2_pp2_to_dp4": LAYOUTS["tp2_pp2_to_dp4"] | ROWS,
    "items_tp2_without_sp": LAYOUTS["no_sequence_parallel"] | ITEMS,
    "items_cp2_tp2_of_whole_images": LAYOUTS["cp2_encoder_of_whole_images"] | ITEMS,
    "items_cp4_of_one_image": LAYOUTS["cp4_encoder_of_one_image"] | ITEMS,
    "rows_cp4_of_one_image": LAYOUTS["cp4_encoder_of_one_image"] | ROWS,
    "items_with_empty_shares": LAYOUTS["empty_encoder_shares"] | ITEMS,
    "rows_with_empty_shares": LAYOUTS["empty_encoder_shares"] | ROWS,
    "items_most_without": LAYOUTS["most_without_images"] | ITEMS,
    "items_none_at_all": LAYOUTS["no_image_at_all"] | ITEMS,
    "items_without_loss_tokens": LAYOUTS["no_loss_token_at_all"] | ITEMS,
    "items_groups_of_3": pair(4, {"ranks": [0, 1], "tp": 2}, {"ranks": [2, 3]}, schedule__microbatches=5, schedule__encoder_group=3, schedule__encoder="fill") | ITEMS,
    "items_zero_bubble_recomputed": pair(4, {"ranks": ranks(0, 4), "pp": 2, "tp": 2}, {"ranks": ranks(0, 4), "pp": 2, "tp": 2}, schedule__kind="zero_bubble", modules__vision__recompute="full") | ITEMS,
    "rows_of_a_trained_projector": pair(3, {"ranks": [0, 1]}, {"ranks": [2]}, modules__vision__train=["projector.*"]) | ROWS,
    "items_replicated": LAYOUTS["replicate_x_shard"] | ITEMS,
    "rows_packed": LAYOUTS["packed"] | ROWS,
}  # fmt: skip
CONTRASTS: dict[str, dict[str, Any]] = {
    "sigmoid_over_microbatches_and_lanes": LAYOUTS["dp3_to_dp2"] | SIGMOID,
    "softmax_tp2_pp2_to_dp4": LAYOUTS["tp2_pp2_to_dp4"] | SOFTMAX,
    "softmax_cp4_of_one_image": LAYOUTS["cp4_encoder_of_one_image"] | SOFTMAX,
    "sigmoid_with_empty_shares": LAYOUTS["empty_encoder_shares"] | SIGMOID,
    "softmax_none_at_all": LAYOUTS["no_image_at_all"] | SOFTMAX,
    "sigmoid_most_without": LAYOUTS["most_without_images"] | SIGMOID,
    "softmax_packed_groups": pair(4, {"ranks": [0, 1], "tp": 2, "sequence_parallel": False}, {"ranks": [2, 3]}, schedule__microbatches=5, schedule__encoder_group=2, data__packing=True) | SOFTMAX,
}  # fmt: skip
OFTEN = (
    *("tp2", "further_tokens_tp2_pp2", "no_loss_token_at_all"),
    *("rows_tp2_pp2_to_dp4", "items_tp2_without_sp", "items_cp4_of_one_image", "items_with_empty_shares"),
    *("sigmoid_over_microbatches_and_lanes", "softmax_cp4_of_one_image", "softmax_none_at_all"),
)


def _cases(layouts: dict[str, dict[str, Any]]) -> list[Any]:
    return [pytest.param(name, marks=() if name in OFTEN else pytest.mark.more) for name in layouts]


@pytest.mark.parametrize("name", _cases(OF_SCORES))
def test_terms_of_scores_equal_one_process(pool: Pool, name: str) -> None:
    result = pool.run(verify_task, as_verified(override(load_config(TINY), OF_SCORES[name] | Z), "float64"))
    assert_equal(result)
    assert "loss language.z_loss" in {difference.kind for difference in result.differences}


@pytest.mark.parametrize("name", _cases(OF_ITEMS))
def test_losses_of_items_equal_one_process(pool: Pool, name: str) -> None:
    result = pool.run(verify_task, as_verified(override(load_config(TINY), OF_ITEMS[name]), "float64"))
    assert_equal(result)
    assert "loss vision.regression" in {difference.kind for difference in result.differences}


@pytest.mark.parametrize("name", _cases(CONTRASTS))
def test_contrasts_equal_one_process(pool: Pool, name: str) -> None:
    result = pool.run(verify_task, as_verified(override(load_config(TINY), CONTRASTS[name]), "float64"))
    assert_equal(result)
    assert "loss vision.contrastive" in {difference.kind for difference in result.differences}


def test_an_evaluation_says_what_a_step_does(pool: Pool) -> None:
    layout = pair(4, {"ranks": [0, 1], "tp": 2}, {"ranks": [2, 3], "tp": 2})
    evaluated, trained = pool.run(_evaluated_task, as_verified(override(load_config(TINY), layout | EVERY), "float64"))
    assert trained.further.keys() == {"language.z_loss", "vision.regression", "vision.contrastive"}
    assert evaluated.loss == pytest.approx(trained.loss, rel=1e-12)
    assert evaluated.further == pytest.approx(trained.further, rel=1e-12)


EVERY = ITEMS | {"modules.vision.losses": [*ITEMS["modules.vision.losses"], *SIGMOID["modules.vision.losses"]]}


def _evaluated_task(member: Member, config: Config) -> tuple[Evaluated, StepResult] | None:
    if is_spare(member, config):
        return None
    plan, models, corpus = prepare_run(config)
    engine = Engine(settings_of(config), plan, models, member.groups(plan), observers=(member.observe,))
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    inputs = reader.read(plan.batch(0, corpus.packs(0)))
    found = engine.evaluate_step(inputs), engine.train_step(inputs)
    engine.close()
    return found if member.world.rank == 0 else None
