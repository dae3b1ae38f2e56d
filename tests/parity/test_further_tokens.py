"""Multi-token prediction equals one plain process in every layout (design D13)."""

from typing import Any

import pytest

from counterpoint.config.schema import Config
from counterpoint.data.feed import Reader
from counterpoint.models.mtp import MtpDepth
from counterpoint.train.engine import Engine
from counterpoint.verify import case
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.further import FURTHER, FURTHER_HYBRIDS, further_config, further_hybrid_config
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize("name", FURTHER)
def test_further_tokens_equal_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, further_config(name)))


@pytest.mark.parametrize("name", FURTHER_HYBRIDS)
def test_further_tokens_of_a_hybrid_equal_one_process(pool: Pool, name: str) -> None:
    result: CaseResult = pool.run(verify_task, further_hybrid_config(name))
    assert_equal(result)
    assert not result.is_tied
