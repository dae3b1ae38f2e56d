"""Multi-token prediction equals one plain process in every layout."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.models.batch import TextBatch
from counterpoint.models.head import VocabularyHead
from counterpoint.train.engine import Engine
from counterpoint.train.replica import Replica
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.further import FURTHER, FURTHER_HYBRIDS, further_config, further_hybrid_config
from tests.parity.often import often
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize("name", often(FURTHER, 4))
def test_further_tokens_equal_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, further_config(name)))


@pytest.mark.parametrize("name", often(FURTHER_HYBRIDS, 3))
def test_further_tokens_of_a_hybrid_equal_one_process(pool: Pool, name: str) -> None:
    result: CaseResult = pool.run(verify_task, further_hybrid_config(name))
    assert_equal(result)
    assert not result.is_tied


def test_a_scaled_loss_of_a_depth_is_noticed(pool: Pool) -> None:
    result: CaseResult = pool.run(_scaled_weight_task, further_config("tp2"))
    assert {d.kind for d in result.differences if d.value > result.tolerance} >= {"norm", "gradient", "update"}


def test_a_copy_whose_gradient_is_not_summed_is_noticed(pool: Pool) -> None:
    result: CaseResult = pool.run(_untied_copy_task, further_config("pp2"))
    assert "gradient" in {d.kind for d in result.differences if d.value > result.tolerance}


@pytest.mark.more
def test_tokens_of_another_document_are_noticed(pool: Pool) -> None:
    result: CaseResult = pool.run(_rolled_task, further_config("cp2_tp2_pp2_packed"))
    assert "MTP loss" in {d.kind for d in result.differences if d.value > result.tolerance}


def _scaled_weight_task(member: Member, config: Config) -> CaseResult | None:
    """Run a case in which the heads of the layout, not the reference's, weigh further tokens 1.001 times."""
    build = Engine.__init__

    def scaled(engine: Engine, *arguments: Any, **more: Any) -> None:
        build(engine, *arguments, **more)
        for replica in engine.replicas.values():
            for module in replica.chain.modules():
                if isinstance(module, VocabularyHead):
                    module.mtp_weight *= 1.001

    with patch.object(Engine, "__init__", scaled):
        return verify_task(member, config)


def _untied_copy_task(member: Member, config: Config) -> CaseResult | None:
    """Run a case in which both stages keep their own gradient of the embedding."""
    with patch.object(Replica, "tie", lambda _replica: None):
        return verify_task(member, config)


def _rolled_task(member: Member, config: Config) -> CaseResult | None:
    """Run a case in which the tokens ahead are read off the rank's own next rows, whatever document they are of."""
    read = Reader._text

    def rolled(reader: Reader, *arguments: Any, **more: Any) -> TextBatch:
        batch = read(reader, *arguments, **more)
        return replace(
            batch, mtp=tuple(replace(one, ids=batch.ids.roll(-1 - depth)) for depth, one in enumerate(batch.mtp))
        )

    with patch.object(Reader, "_text", rolled):
        return verify_task(member, config)
