"""Moments in bfloat16 on ranks: a run that resumes goes on to the last bit, and any layout reads them."""

from pathlib import Path

import pytest
import torch

from counterpoint.config.schema import Config
from counterpoint.setup.rank import saver_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.state.saving import model_tensors, optimizer_tensors
from counterpoint.verify.case import _gather
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import SAVED_AFTER, new_engine, resume_task, rounded, train
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, override

FROM, TO = "colocated_tp2_dp2_to_tp2_dp2_ep4", "ep2_etp2_over_tp2_edp2"


def test_a_resumed_run_goes_on_to_the_last_bit(pool: Pool, tmp_path: Path) -> None:
    dtypes = {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}
    config = override(rounded(hybrid_config(FROM)), {"run.dir": str(tmp_path), "training.precision": dtypes})
    assert pool.run(resume_task, config, "exp_avg_sq") == []


@pytest.mark.more
def test_any_layout_reads_them_and_so_does_a_run_with_full_moments(pool: Pool, tmp_path: Path) -> None:
    folder = {"run.dir": str(tmp_path)}
    saved = pool.run(_saved_task, override(rounded(hybrid_config(FROM)), folder))
    moments = [key for key in saved if key.startswith("optimizer/")]
    assert {saved[key].dtype for key in moments} == {torch.bfloat16}
    assert all(saved[key].any() for key in moments if key.endswith("layers.0.norm.weight/exp_avg_sq"))
    for config, dtype in ((rounded(hybrid_config(TO)), torch.bfloat16), (hybrid_config(TO), torch.float64)):
        read = pool.run(_resumed_task, override(config, folder))
        assert read.keys() == saved.keys()
        assert {read[key].dtype for key in moments} == {dtype}
        assert [key for key in saved if not torch.equal(read[key].to(saved[key].dtype), saved[key])] == []


def _saved_task(member: Member, config: Config) -> dict[str, torch.Tensor] | None:
    """The whole state that a run has saved, on one rank."""
    if is_spare(member, config):
        return None
    plan, models, _corpus = prepare_run(config)
    engine, saver = new_engine(member, config), saver_of(config, models, member.groups(plan))
    train(config, engine, 0, SAVED_AFTER)
    saver.save(engine, SAVED_AFTER, ())
    saver.finish()
    return _whole(member, config, engine)


def _resumed_task(member: Member, config: Config) -> dict[str, torch.Tensor] | None:
    """The whole state of a run that has resumed, on one rank."""
    if is_spare(member, config):
        return None
    plan, models, _corpus = prepare_run(config)
    engine = new_engine(member, config)
    saver_of(config, models, member.groups(plan)).resume(engine)
    return _whole(member, config, engine)


def _whole(member: Member, config: Config, engine: Engine) -> dict[str, torch.Tensor] | None:
    tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
    pieces = {(0, "state", key): (block._block, block._tensor.clone()) for key, block in tensors.items()}
    engine.close()
    whole = _gather(pieces, member.groups(prepare_run(config).plan))
    return {key: tensor for (_step, _kind, key), tensor in whole.items()} or None
