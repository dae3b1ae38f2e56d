# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Layouts of a tower whose rows become fewer equal one process: images of mixed sizes, and lanes without any."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.brought import SPARSE
from tests.parity.layouts import TINY, override, pair, ranks
from tests.parity.often import often_unless
from tests.parity.test_named_layouts import assert_equal
from tests.unit.judge.judge import REASON
from tests.unit.judge.whole_configs import config_of, write_judge

CONVNEXT: dict[str, Any] = {
    "kind": "convnext", "patch": 2, "depths": [1, 2], "widths": [12, 24], "image": {"max_patches": 64},
    "projector": {"kind": "mlp", "hidden": 24},
}  # fmt: skip
MERGED = {**CONVNEXT, "depths": [1, 1], "merge": 2, "activation": "gelu_tanh", "projector": {"kind": "linear"}}
SAMPLED = {**CONVNEXT, "projector": {"kind": "resampler", "queries": 3, "hidden": 12, "heads": 6, "ffn": 12}}
FEW = [{"synthetic": {"documents": 64} | SPARSE}]

LAYOUTS: dict[str, dict[str, Any]] = {
    "one_rank": pair(1, {"ranks": [0]}, {"ranks": [0]}),
    "dp2_to_tp2": pair(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}, schedule__microbatches=3),
    "replicas": pair(4, {"ranks": ranks(0, 4), "dp_replicate": 2, "dp_shard": 2}, {"ranks": ranks(0, 4)}, modules__vision__model=MERGED),
    "few_images_dp4": pair(4, {"ranks": ranks(0, 4), "reshard": True}, {"ranks": ranks(0, 4), "tp": 2}, data__train=FEW),
    "tp2": pair(4, {"ranks": [0, 1], "tp": 2}, {"ranks": [2, 3]}),
    "tp3_without_sp": pair(3, {"ranks": ranks(0, 3), "tp": 3, "sequence_parallel": False}, {"ranks": ranks(0, 3)}, modules__vision__model=MERGED),
    "tp2_dp2_recomputed": pair(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4), "pp": 2}, modules__vision__recompute="full", schedule__kind="zero_bubble"),
    "few_images_tp2_dp2": pair(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4), "tp": 2}, data__train=FEW),
    "queries_tp2": pair(3, {"ranks": [0, 1], "tp": 2}, {"ranks": [2]}, modules__vision__model=SAMPLED),
    "last_layers_train": pair(3, {"ranks": [0, 1], "tp": 2}, {"ranks": [2]}, modules__vision__train=["layers.[12].*", "projector.*"]),
}  # fmt: skip

BESIDE = {
    "one_rank": "every other layout",
    "replicas": "dp2_to_tp2",
    "few_images_dp4": "few_images_tp2_dp2",
    "tp3_without_sp": "tests/distributed/cases_tensor.py",
    "queries_tp2": "tp2",
    "last_layers_train": "tp2",
}
"""Layouts beside which the suite has others."""


def convnext_base() -> Config:
    """tiny.yaml with a convnext, in float64."""
    return as_verified(override(load_config(TINY), {"modules.vision.model": CONVNEXT}), "float64")


def convnext_config(layout: str) -> Config:
    """A convnext in a named layout."""
    return override(convnext_base(), LAYOUTS[layout])


@pytest.mark.parametrize("layout", often_unless(LAYOUTS, BESIDE))
def test_a_convnext_equals_one_process(pool: Pool, layout: str) -> None:
    config = convnext_config(layout)
    if layout.startswith("few_images"):
        plan, _models, corpus = prepare_run(config)
        shares = [lanes for step in range(2) for lanes in plan.batch(step, corpus.packs(step)).shares["vision"]]
        assert any({bool(lane.spans) for lane in lanes} == {True, False} for lanes in shares)
    assert_equal(pool.run(verify_task, config))


def test_a_folder_of_transformers_is_trained_on_as_in_one_process(pool: Pool, tmp_path: Path) -> None:
    """Responses count from the first step on, since nothing there is zero."""
    pytest.importorskip("transformers", reason=REASON)
    whole, _tensors = write_judge("convnextv2", tmp_path / "folder")
    layouts = {"modules.vision.layout": {"ranks": ranks(0, 4), "tp": 2}, "modules.language.layout": {"ranks": [0, 1]}}
    config = override(
        config_of(whole, tmp_path / "folder", {}), {"world.size": 4, "world.partial_overlap": True} | layouts
    )
    result = pool.run(verify_task, config)
    assert_equal(result)
    cold = pool.run(verify_task, override(config, {"modules.vision.init_from": None}))
    assert cold.loss != pytest.approx(result.loss, rel=1e-3)


@pytest.mark.sweep
def test_24_random_cases_of_a_convnext_equal_one_process(pool: Pool) -> None:
    for case in choose(convnext_base(), 24, 20, 8):
        assert case.refusal is None
        assert_equal(pool.run(verify_task, load_config(case.config)))
