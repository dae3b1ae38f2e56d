"""Rows that nothing scores are left out on ranks, also where a lane has no others, and steps equal one process."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.models.batch import TextBatch
from counterpoint.models.scored import ScoredRows
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import TINY, override, pair, ranks
from tests.parity.test_named_layouts import assert_equal

FULL = {"modules__language__recompute": "full"}
BUBBLE = {"schedule__kind": "zero_bubble", "schedule__microbatches": 3}
IN_ORDER = {"data__balance": "none"}
"""Dealt by cost, no lane is left without a scored row."""

ON_FOUR: dict[str, Any] = {"ranks": ranks(0, 4)}
CASES: dict[str, dict[str, Any]] = {
    "cp2_resharded": pair(4, ON_FOUR, ON_FOUR | {"cp": 2, "reshard": True}, **IN_ORDER),
    "pp2_zero_bubble_recomputed": pair(4, ON_FOUR, ON_FOUR | {"pp": 2}, **FULL, **BUBBLE, **IN_ORDER),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_out_changes_nothing(pool: Pool, name: str) -> None:
    config = as_verified(override(load_config(TINY), CASES[name]), "float64")
    result, left_out, without = pool.run(_counting_task, config)
    assert_equal(result)
    assert left_out > 0
    assert without > 0


def _counting_task(member: Member, config: Config) -> tuple[CaseResult, int, int] | None:
    """The result, the rows that were left out on all ranks, and how often none of a lane's was scored."""
    counts = torch.zeros(2, dtype=torch.int64)
    narrow = ScoredRows.forward

    def counted(self: ScoredRows, rows: torch.Tensor, batch: TextBatch) -> tuple[torch.Tensor, TextBatch]:
        kept, of_these = narrow(self, rows, batch)
        counts.add_(torch.tensor([len(rows) - len(kept), len(rows) > 0 and not len(kept)]))
        return kept, of_these

    with patch.object(ScoredRows, "forward", counted):
        result = verify_task(member, config)
    dist.all_reduce(counts)
    return None if result is None else (result, int(counts[0]), int(counts[1]))
