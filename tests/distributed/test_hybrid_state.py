"""The state of mixtures of experts: checkpoints on another expert view, and evaluation that leaves no trace."""

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import nn

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.layers.mamba.sublayer import Dynamics
from counterpoint.layers.moe.experts import Experts
from counterpoint.layers.moe.router import Router
from counterpoint.parallelize import fsdp
from counterpoint.parallelize.whole import copies_of
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.state.saving import Saver
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import MUON
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, override

SAVED_AFTER, STEPS = 2, 4
COLOCATED = {"ranks": [0, 1, 2, 3]}


@pytest.mark.parametrize("kind", ["adamw", pytest.param("muon", marks=pytest.mark.more)])
def test_a_checkpoint_goes_on_equally_on_another_expert_view(pool: Pool, tmp_path: Path, kind: str) -> None:
    first = override(hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"), {"run.dir": str(tmp_path)})
    first = override(first, MUON) if kind == "muon" else first
    views = {"ep": 2, "etp": 2}
    second = override(first, {"modules.language.layout": COLOCATED | {"cp": 2, "expert": views}})
    uninterrupted, resumed, biases = pool.run(_resume_task, first, second)
    assert len(uninterrupted) == len(resumed) == STEPS - SAVED_AFTER
    for ours, theirs in zip(resumed, uninterrupted, strict=True):
        assert abs(ours - theirs) <= 1e-9 * abs(theirs)
    assert biases[0].abs().max() > 0
    assert torch.equal(*biases)


def test_evaluation_moves_nothing_and_equals_the_training_loss(pool: Pool) -> None:
    evaluated, trained, moved = pool.run(_evaluation_task, hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"))
    assert abs(evaluated - trained) <= 1e-12 * abs(trained)
    assert moved == 0.0


def _engine(member: Member, config: Config) -> tuple[Engine, Reader, Saver]:
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe,))
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    return engine, reader, saver_of(config, models, groups)


def _steps(config: Config, engine: Engine, reader: Reader, first: int, stop: int) -> list[float]:
    corpus = prepare_run(config).corpus
    results = [engine.train_step(reader.read(engine.plan.batch(n, corpus.packs(n)))) for n in range(first, stop)]
    return [result.loss + result.balance_loss for result in results]


def _bias(engine: Engine) -> torch.Tensor:
    return torch.stack([buffer.value.clone() for buffer in engine.buffers])


def _resume_task(member: Member, first: Config, second: Config) -> object:
    if member.world.rank >= first.world.size:
        for config in (first, second):
            member.groups(prepare_run(config).plan)
        return None
    engine, reader, saver = _engine(member, first)
    _steps(first, engine, reader, 0, SAVED_AFTER)
    saver.save(engine, SAVED_AFTER, ())
    saver.finish()
    saved = _bias(engine)
    uninterrupted = _steps(first, engine, reader, SAVED_AFTER, STEPS)
    engine.close()
    other, other_reader, other_saver = _engine(member, second)
    state = other_saver.resume(other).state
    assert state.optimizer_step == SAVED_AFTER
    loaded = _bias(other)
    resumed = _steps(second, other, other_reader, SAVED_AFTER, STEPS)
    other.close()
    return (uninterrupted, resumed, (saved, loaded)) if member.world.rank == 0 else None


def _evaluation_task(member: Member, config: Config) -> object:
    if is_spare(member, config):
        return None
    engine, reader, _saver = _engine(member, config)
    plan, _models, corpus = prepare_run(config)
    inputs = reader.read(plan.batch(0, corpus.packs(0)))
    before = [held.value.clone() for held in engine.held]
    evaluated = engine.evaluate_step(inputs).loss
    moved = max(
        float((held.value - old).abs().max()) for held, old in zip(engine.held, before, strict=True) if old.numel()
    )
    trained = engine.train_step(reader.read(plan.batch(0, corpus.packs(0)))).loss
    engine.close()
    return (evaluated, trained, moved) if member.world.rank == 0 else None


def test_what_steers_a_recurrence_or_a_choice_stays_float32_in_bfloat16(pool: Pool) -> None:
    config = hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4")
    precision = {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}
    seen, loss = pool.run(_bfloat16_task, override(config, {"training.precision": precision}))
    assert seen == {(Dynamics, torch.float32), (Router, torch.float32), (Experts, torch.bfloat16)}
    assert 0 < loss < 20


def _bfloat16_task(member: Member, config: Config) -> object:
    """Weights of which type reach the layers, under FSDP2 as it trains."""
    if is_spare(member, config):
        return None
    engine, _reader, _saver = _engine(member, config)
    plan, _models, corpus = prepare_run(config)
    reader = Reader(plan, member.world.rank, corpus.sources, torch.bfloat16)
    seen: set[tuple[type[nn.Module], torch.dtype]] = set()

    def note(kind: type[nn.Module], module: nn.Module) -> None:
        as_read = module.stored if isinstance(module, Experts) else nn.Identity()
        seen.update((kind, as_read(weight).dtype) for weight in module.parameters(recurse=False))

    for replica in engine.replicas.values():
        for module in replica.chain.modules():
            for kind in (Dynamics, Router, Experts):
                if isinstance(module, kind):
                    module.register_forward_pre_hook(lambda module, _inputs, kind=kind: note(kind, module))
    loss = engine.train_step(reader.read(plan.batch(0, corpus.packs(0)))).loss
    engine.close()
    return (seen, loss) if member.world.rank == 0 else None


ADAMW = {"kind": "adamw", "lr": 0.01}
WAYS: dict[str, dict[str, object]] = {
    "adamw": {},
    "narrow_moments": {"modules.language.optimizer": ADAMW | {"moments": "bfloat16"}},
    "muon": {"modules.language.optimizer": {"kind": "muon", "lr": 0.01}},
    "deferred": {"schedule.kind": "zero_bubble"},
    "deferred_and_recomputed": {"schedule.kind": "zero_bubble", "modules.language.recompute": "full"},
    "frozen_in_part": {"modules.language.train": ["embed.*", "*.moe.experts.down"]},
}


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_experts_that_a_rank_holds_whole_train_as_fsdp2_would_train_them(
    pool: Pool, way: str, microbatches: int
) -> None:
    """To the last bit, in bfloat16, whether the optimizer writes what the experts multiply with or not, and whether
    backward or an action of its own makes their gradients."""
    usual: dict[str, object] = {
        "training.precision": {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"},
        "schedule.microbatches": microbatches,
        "modules.language.optimizer": ADAMW,
    }
    config = override(hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"), usual | WAYS[way])
    ours, theirs = pool.run(_whole_task, config)
    assert ours.copies > 0
    assert theirs.copies == 0
    assert ours.losses == theirs.losses
    assert all(torch.equal(one, other) for one, other in zip(ours.values, theirs.values, strict=True))
    assert ours.losses[0] != ours.losses[1]


class _Trained(NamedTuple):
    """Losses of some steps, the values of rank 0 after them, and how many weights had copies."""

    losses: list[float]
    values: list[torch.Tensor]
    copies: int


def _whole_task(member: Member, config: Config) -> tuple[_Trained, ...] | None:
    if is_spare(member, config):
        return None
    found = []
    for is_ours in (True, False):
        # FSDP2 takes what does not say that it reads its weights through a seam.
        with nullcontext() if is_ours else patch.object(fsdp, "ReadsStored", ()):
            engine, _reader, _saver = _engine(member, config)
        plan, _models, corpus = prepare_run(config)
        reader = Reader(plan, member.world.rank, corpus.sources, torch.bfloat16)
        losses = _steps(config, engine, reader, 0, 3)
        copies = sum(len(copies_of(replica.chain)) for replica in engine.replicas.values())
        found.append(_Trained(losses, [held.value.clone() for held in engine.held], copies))
        engine.close()
    return tuple(found) if member.world.rank == 0 else None


@pytest.mark.parametrize(("wide", "compute"), [("float64", "float64"), ("float32", "bfloat16")])
def test_a_step_that_reaches_no_expert_leaves_all_of_them_gradients_of_zeros(
    pool: Pool, wide: str, compute: str
) -> None:
    config = override(
        hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"),
        {"training.precision": {"parameters": wide, "compute": compute, "reduce": wide}},
    )
    gradients = pool.run(_unreached_task, config)
    assert any(".experts." in name for name in gradients)
    assert set(gradients.values()) == {0.0}


def _unreached_task(member: Member, config: Config) -> dict[str, float] | None:
    """The sum of each trained parameter's gradient, in absolute values, after a
    step without backwards; NaN for none."""
    if is_spare(member, config):
        return None
    engine, _reader, _saver = _engine(member, config)
    for replica in engine.replicas.values():
        replica.reduce(reached=False)
        replica.finish_reduction(reached=False)
    found = {
        held.key: float("nan") if held.parameter.grad is None else float(held.gradient.abs().sum())
        for replica in engine.replicas.values()
        for held in replica.trained
    }
    engine.close()
    return found if member.world.rank == 0 else None
