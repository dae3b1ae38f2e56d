"""An encoder whose documents have no loss has no gradient, on ranks as in one process, whatever is packed with them."""

from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.compare import Observation
from counterpoint.verify.pool import Pool
from counterpoint.verify.reference import Reference
from tests.parity.layouts import HYBRID, documents, override, pair
from tests.parity.test_named_layouts import assert_equal

FROZEN: dict[str, Any] = {
    "modules__language__train": "none",
    "data__packing": True,
    "data__train": documents(seed=6, without_images=0.7, without_loss=0.5),
    "training__global_batch_samples": 6,
}
"""Of the first step all images stand in documents without a loss, which others with one follow."""

CASES = {
    "cp2": pair(3, {"ranks": [0]}, {"ranks": [1, 2], "cp": 2}, **FROZEN),
    "tp2": pair(3, {"ranks": [0]}, {"ranks": [1, 2], "tp": 2}, **FROZEN),
}


@pytest.mark.parametrize("name", CASES)
def test_no_loss_is_no_gradient(pool: Pool, name: str) -> None:
    """Not even one of rounding: the relative difference of two of those would mean nothing."""
    config = as_verified(override(load_config(HYBRID), CASES[name]), "float64")
    first = _first_step(config)
    assert first.loss > 0.0 == first.norm
    assert_equal(pool.run(verify_task, config))


def _first_step(config: Config) -> Observation:
    corpus = prepare_run(config).corpus
    reference = Reference(config, corpus.sources, torch.device("cpu"), torch.float64)
    return reference.step([document for pack in corpus.packs(0) for document in pack])
