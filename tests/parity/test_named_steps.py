"""Every named way to run a step equals one plain process (design D13)."""

import pytest

from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.pool import Pool
from tests.parity.steps import HYBRID_STEPS, STEPS, hybrid_step_config, step_config
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize("name", STEPS)
def test_a_step_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, step_config(name)))


@pytest.mark.parametrize("name", HYBRID_STEPS)
def test_a_hybrid_step_equals_one_process(pool: Pool, name: str) -> None:
    result: CaseResult = pool.run(verify_task, hybrid_step_config(name))
    assert_equal(result)
    assert not result.is_tied
