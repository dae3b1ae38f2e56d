# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Compiled layers equal one plain process that compiles nothing; the first time costs half a minute a case."""

import shutil
from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool, PoolError
from tests.parity.layouts import HYBRID, TINY, UNIFORM, documents, override, pair, ranks
from tests.parity.test_named_layouts import assert_equal

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="layers are compiled on a CPU by g++")

SECONDS = 400.0
"""For a case; a compiler that shares its cores with others takes minutes."""

EVEN = {"data__train": documents(**UNIFORM)}
SHORT = {"modules__vision__model__layers": 1, "modules__language__model__pattern": "*-"}
"""One layer of a kind is enough: every layer is compiled for itself."""

PAIRS: dict[str, dict[str, Any]] = {
    "tp2_colocated_even": pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "tp": 2}, **EVEN, **SHORT),
    "disjoint_ragged": pair(2, {"ranks": [0]}, {"ranks": [1]}, **SHORT),
}
FURTHER_PAIRS: dict[str, dict[str, Any]] = {
    "cp2_tp2_to_dp4_resharded": pair(4, {"ranks": ranks(0, 4), "cp": 2, "tp": 2}, {"ranks": ranks(0, 4), "reshard": True}),
    "zero_bubble_recomputed": pair(4, {"ranks": ranks(0, 4), "pp": 2}, {"ranks": ranks(0, 4), "pp": 2, "tp": 2}, schedule__kind="zero_bubble", modules__language__recompute="full", modules__vision__recompute="full", **EVEN),
    "further_tokens_without_sp": pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "tp": 2, "sequence_parallel": False}, modules__language__model__mtp={"depths": 2, "pattern": "*-", "weight": 0.5}),
    "z_loss_over_tp2": pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "tp": 2}, modules__language__losses=[{"kind": "z_loss", "weight": 0.3}], **SHORT),
    "most_without_images": pair(3, {"ranks": [0, 1]}, {"ranks": [2]}, data__train=documents(without_images=0.8), schedule__microbatches=4),
}  # fmt: skip
OFTEN = "disjoint_ragged"
"""Sizes that come first and others, in both modules: the one case of every run."""

CASES = [pytest.param(name, marks=() if name == OFTEN else pytest.mark.more) for name in PAIRS | FURTHER_PAIRS]


@pytest.mark.parametrize("name", CASES)
def test_compiled_layers_equal_one_process(pool: Pool, name: str) -> None:
    config = override(load_config(TINY), (PAIRS | FURTHER_PAIRS)[name] | {"training.compile": True})
    assert_compiled_and_equal(pool, config)


@pytest.mark.more
def test_compiled_layers_of_a_hybrid_equal_one_process(pool: Pool) -> None:
    layouts = pair(2, {"ranks": [0, 1]}, {"ranks": [0, 1], "expert": {"ep": 2}})
    assert_compiled_and_equal(pool, override(load_config(HYBRID), layouts | {"training.compile": True}))


def assert_compiled_and_equal(pool: Pool, config: Config) -> None:
    """The comparison holds, and not because nothing was compiled."""
    try:
        result, compiled = pool.run(_compiled_task, as_verified(config, "float64"), timeout_seconds=SECONDS)
    except PoolError as error:
        if "_scaled_dot_product_flash_attention_for_cpu_backward" in str(error) and _torch_states_a_wrong_dtype():
            pytest.skip(f"torch {torch.__version__} states a wrong dtype for what attention in float64 keeps on a CPU")
        raise
    assert_equal(result)
    assert compiled > 0


def _torch_states_a_wrong_dtype() -> bool:
    """Whether torch states float32 for the sums that attention of float64 on a CPU keeps as float64, as torch 2.11
    does: what is compiled by that fails in backward, also in plain torch."""
    rows = torch.empty(1, 1, 1, 8, dtype=torch.float64, device="meta")
    return bool(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(rows, rows, rows)[1].dtype != rows.dtype)


def _compiled_task(member: Member, config: Config) -> tuple[CaseResult, int] | None:
    """The result, and how many functions rank 0 has compiled for it."""
    if member.world.rank >= config.world.size:
        # All ranks of the pool would import a compiler that few of them use.
        verify_task(member, config)
        return None
    from torch._dynamo.utils import counters
    from torch._inductor import config as inductor

    # A compiler's own processes start more slowly than they compile so little.
    inductor.compile_threads = 1
    torch.compiler.reset()
    counters.clear()
    result = verify_task(member, config)
    return None if result is None else (result, counters["frames"]["ok"])
