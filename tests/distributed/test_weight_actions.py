"""Weight gradients apart, under FSDP2 with tensor and expert parallelism: nothing early, nothing lost."""

import zlib
from dataclasses import dataclass, replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp._fully_shard._fsdp_state import _get_module_fsdp_state

from counterpoint.config.training import PrecisionConfig
from counterpoint.families import rules_of
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.router import Router
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.parallelize.apply import ParallelChain, Parallelism
from counterpoint.parallelize.fsdp import (
    begin_accumulation,
    finish_reduction,
    local,
    reduce_gradients,
)
from counterpoint.plan.layout import Layout
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.parallel_chains import parallel_chain
from tests.parity.often import often
from tests.unit.models.model_samples import HYBRID, LAYER_KINDS, changed, text_batch
from tests.unit.models.weight_holders import deferred_names

MODEL = changed(HYBRID, pattern="*-ME", ffn=12, bias=True, qk_norm=True)
FLOAT64 = PrecisionConfig(parameters="float64", compute="float64", reduce="float64")
BFLOAT16 = PrecisionConfig(compute="bfloat16")
COPIES = [Layout(module=f"copy{n}", ranks=tuple(range(4 * n, 4 * n + 4)), dp_shard=2, tp=2, ep=2) for n in range(2)]
"""Twice dp 2 x tp 2: FSDP2 shards over dp, experts lie on tp."""
SMALL_VECTORS = {"layers.0.norm.weight", "layers.2.mamba.dynamics.a_log", "layers.2.mamba.x_conv.weight", "norm.weight"}


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    model: Model
    precision: PrecisionConfig
    reshard: bool
    recomputed: bool = False


@pytest.mark.parametrize(("tied", "reshard"), often([(False, False), (False, True), (True, False), (True, True)], 3))
def test_two_actions_equal_one(pool: Pool, tied: bool, reshard: bool) -> None:
    early, deferred, difference = pool.run(_compare_task, Case(changed(MODEL, tied=tied), FLOAT64, reshard))
    _assert_apart(early, deferred)
    assert difference <= 1e-12


@pytest.mark.parametrize("reshard", often([True, False], 2))
def test_recomputed_layers_leave_their_weights_once(pool: Pool, reshard: bool) -> None:
    early, deferred, difference = pool.run(_compare_task, Case(MODEL, FLOAT64, reshard, recomputed=True))
    _assert_apart(early, deferred)
    assert difference <= 1e-12


@pytest.mark.parametrize("reshard", often([True, False], 2))
def test_bfloat16_gradients_accumulate_in_float32(pool: Pool, reshard: bool) -> None:
    early, deferred, difference = pool.run(_compare_task, Case(MODEL, BFLOAT16, reshard))
    _assert_apart(early, deferred)
    # Microbatches are added in another order: that moves float32's last bits, where bfloat16 has 8 in all.
    assert difference <= 1e-6


def _assert_apart(early: set[str], deferred: set[str]) -> None:
    assert len(deferred) > 20
    assert early.isdisjoint(deferred)
    assert early >= SMALL_VECTORS


def _compare_task(member: Member, case: Case) -> object:
    """Who has a gradient after the input actions, who must have none, and the largest relative difference."""
    plain = _build(member, replace(case, recomputed=False), divided=False)
    expected, _none = _train(plain, case, _lane(member), divided=False)
    made = _build(member, case, divided=True)
    deferred = deferred_names(made.chain)
    found, early = _train(made, case, _lane(member), divided=True)
    assert found.keys() == expected.keys()
    worst = torch.zeros((), dtype=torch.float64)
    for name, gradient in expected.items():
        size = gradient.abs().max()
        dist.all_reduce(size, dist.ReduceOp.MAX)
        assert size > 0, f"{name} has no gradient, which proves nothing"
        worst = torch.maximum(worst, ((found[name] - gradient).abs().max() / size).double())
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return (early, deferred, float(worst)) if member.world.rank == 0 else None


def _build(member: Member, case: Case, *, divided: bool) -> ParallelChain:
    how = Parallelism(
        precision=case.precision,
        rules=rules_of(case.model.section),
        has_experts=True,
        recomputed=LAYER_KINDS if case.recomputed else frozenset(),
        # In bfloat16 products that overlap with exchanges round otherwise than those that leave their weight gradients.
        defers_weights=divided or case.precision == BFLOAT16,
    )
    layouts = [replace(layout, reshard=case.reshard) for layout in COPIES]
    made = parallel_chain(member, case.model, layouts, how)
    for name, parameter in made.chain.named_parameters():
        shard = local(parameter.detach())
        values = torch.Generator().manual_seed(zlib.crc32(f"{name} {_lane(member)}".encode()))
        shard.copy_(torch.rand(shard.shape, generator=values) - 0.3)
    for module in made.chain.modules():
        if isinstance(module, Router) and module.bias is not None:
            module.bias.zero_()
    return made


def _lane(member: Member) -> int:
    return next(layout.coordinate(member.world.rank).dp for layout in COPIES if member.world.rank in layout.ranks)


def _batches(case: Case, lane: int) -> list[TextBatch]:
    """Three microbatches of this lane; one has documents on one lane only."""
    first, second = ([5, 3], [6]) if lane == 0 else ([2, 7, 1], [])
    return [text_batch(case.model, lengths, 2) for lengths in (first, second, [4])]


def _train(made: ParallelChain, case: Case, lane: int, *, divided: bool) -> tuple[dict[str, Tensor], set[str]]:
    """The reduced gradients of F0 F1 F2 and either B0 B1 B2 or I0 I1 W0 B2 W1, and who had one after I1."""
    chain, queue = made.chain, made.weights
    begin_accumulation(chain, case.reshard)
    losses = [chain(None, batch)[MAIN] for batch in _batches(case, lane)]
    early: set[str] = set()
    if divided:
        assert queue is not None
        works = []
        for loss in losses[:2]:
            with queue.collecting():
                loss.backward()
            works.append(queue.take())
        early = _accumulated(chain)
        works[0].run()
        losses[2].backward()
        works[1].run()
    else:
        for loss in losses:
            loss.backward()
    reduce_gradients(chain, reached=True)
    finish_reduction(chain, reached=True)
    return {name: local(p.grad).clone() for name, p in chain.named_parameters() if p.grad is not None}, early


def _accumulated(chain: Chain) -> set[str]:
    """Names of parameters that hold any gradient, in any of FSDP2's places."""
    held = {name for name, parameter in chain.named_parameters() if parameter.grad is not None}
    names = {module: name for name, module in chain.named_modules()}
    for module in chain.modules():
        state = _get_module_fsdp_state(module)
        group = None if state is None else state._fsdp_param_group
        for parameter in [] if group is None else group.fsdp_params:
            if parameter.unsharded_param.grad is not None or parameter.unsharded_accumulated_grad is not None:
                held.add(f"{names[parameter._module_info.module]}.{parameter._module_info.param_name}".lstrip("."))
    return held
