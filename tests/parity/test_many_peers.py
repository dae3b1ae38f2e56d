"""Exchanges in rounds and images in neighbourhoods equal one plain process, under limits that eight ranks exceed."""

from pathlib import Path
from unittest.mock import patch

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.plan import peers
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.draw import choose
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import TINY, TOWERS, override, pair, ranks
from tests.parity.test_named_layouts import assert_equal

PLACES = {
    "colocated": pair(8, {"ranks": ranks(0, 8)}, {"ranks": ranks(0, 8), "tp": 2, "pp": 2}, schedule__microbatches=3),
    "apart": pair(8, {"ranks": ranks(0, 5)}, {"ranks": ranks(5, 3)}, schedule__microbatches=2),
}


def limited_task(member: Member, config: Config, most_peers: int, most_operations: int) -> CaseResult | None:
    """A case under small limits; that it exceeds them is part of it."""
    with patch.object(peers, "MOST_PEERS", most_peers), patch.object(peers, "MOST_OPERATIONS", most_operations):
        plan = prepare_run(config).plan
        assert max(rounds.count for rounds in plan.rounds.values()) > 1 or most_operations > 2
        return verify_task(member, config)


@pytest.mark.parametrize(
    ("place", "most_peers"),
    [("colocated", 4), pytest.param("colocated", 64, marks=pytest.mark.more), ("apart", 64)],
)
def test_a_step_in_rounds_equals_one_process(pool: Pool, place: str, most_peers: int) -> None:
    config = as_verified(override(load_config(TINY), PLACES[place]), "float64")
    assert_equal(pool.run(limited_task, config, most_peers, 2))


@pytest.mark.more
@pytest.mark.parametrize("base", [TINY, TOWERS], ids=["dense", "graph"])
def test_random_layouts_in_rounds_equal_one_process(pool: Pool, base: Path) -> None:
    cases = choose(as_verified(load_config(base), "float64"), count=12, seed=9, world_size=8)
    for case in cases:
        assert_equal(pool.run(limited_task, load_config(case.config), 2, 3))
