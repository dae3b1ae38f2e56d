"""A decoder in the manner of Gemma 3 equals one plain process: windows under cp and tp, two ropes, norms behind."""

from math import sqrt
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified, run_case
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.layouts import LAYOUTS, TINY, override
from tests.parity.often import often
from tests.parity.test_named_layouts import assert_equal

WINDOW = 4
GEMMA = {
    "kind": "decoder", "pattern": "W-W-*-W", "hidden": 24, "heads": 12, "kv_heads": 4, "head_dim": 6, "ffn": 24,
    "vocab": 37, "tied": True, "qk_norm": True, "post_norm": True, "activation": "geglu_tanh",
    "embedding_scale": sqrt(24), "score_scale": 1 / sqrt(9), "rope_theta": 1e6,
    "rope_scaling": {"factor": 8.0, "original_positions": None},
    "layers": {"W": {"kind": "attention", "window": WINDOW, "rope_theta": 1e4, "rope_scaling": None}},
}  # fmt: skip

PAIRS: dict[str, dict[str, Any]] = {
    "cp2_packed": LAYOUTS["cp2_language"] | {"data.packing": True, "training.global_batch_samples": 11},
    "tp2": LAYOUTS["dp2_to_tp2"],
    "cp2_tp2_without_sp": LAYOUTS["cp2_tp2_without_sp"],
    "pp3_tp2_tied": LAYOUTS["tied_over_pp3_tp2"],
}


def gemma_config(name: str) -> Config:
    """A pair with such a decoder, in float64."""
    return as_verified(override(load_config(TINY), {"modules.language.model": GEMMA, **PAIRS[name]}), "float64")


@pytest.mark.parametrize("name", often(PAIRS, 2))
def test_it_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, gemma_config(name)))


def test_documents_are_longer_than_a_window_and_shorter() -> None:
    plan, _models, corpus = prepare_run(gemma_config("cp2_packed"))
    lengths = [document.tokens for document in plan.batch(0, corpus.packs(0)).documents]
    assert min(lengths) <= WINDOW < max(lengths)


@pytest.mark.sweep
def test_24_random_cases_equal_one_process(pool: Pool) -> None:
    outcomes = [run_case(pool, case, "float64") for case in choose(gemma_config("tp2"), 24, 20, 8)]
    assert {o.case.id: o.words for o in outcomes if o.status != "drawn"} == {}
