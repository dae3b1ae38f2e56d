"""A step gathers what it needs, its reduce action waits for nothing, and no forward leaves anything behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.distributed.fsdp._fully_shard import _fsdp_param_group as fsdp2
from torch.distributed.fsdp._fully_shard._fsdp_state import _get_module_fsdp_state

from counterpoint.config.training import PrecisionConfig
from counterpoint.families import rules_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import MAIN, Chain
from counterpoint.parallelize.apply import Parallelism
from counterpoint.parallelize.fsdp import (
    begin_accumulation,
    begin_reduction,
    finish_reduction,
    local,
    reduce_gradients,
    release,
)
from counterpoint.plan.layout import Layout
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.parallel_chains import parallel_chain
from tests.unit.models.model_samples import HYBRID, changed, text_batch

MODEL = changed(HYBRID, pattern="*-*-", ffn=16)
FLOAT64 = PrecisionConfig(parameters="float64", compute="float64", reduce="float64")
MICROBATCHES: tuple[list[int], ...] = ([5, 3], [6], [])


@pytest.mark.parametrize("reshard", [False, True])
def test_a_step_gathers_what_it_needs(pool: Pool, reshard: bool) -> None:
    groups, gathers, _reduced_late, pending, _kept = pool.run(_step_task, reshard)
    passes = 2 * len(MICROBATCHES) if reshard else 1
    assert gathers == groups * passes
    assert pending == 0


def test_the_reduce_action_leaves_alone_what_backward_has_reduced(pool: Pool) -> None:
    groups, _gathers, reduced_late, _pending, _kept = pool.run(_step_task, False)
    assert groups > 1
    assert reduced_late == 0


def test_no_forward_leaves_anything_behind(pool: Pool) -> None:
    *_others, kept = pool.run(_step_task, False)
    assert kept == 0


def test_features_cross_no_group_that_does_not_read_them(pool: Pool) -> None:
    """Each would add zeros of their size to their gradient."""
    assert pool.run(_crossings_task) == {1}


def _crossings_task(member: Member) -> set[int] | None:
    """How many tensors the groups of a chain with features at two depths take for their rows."""
    model = changed(MODEL, inserts=(1,))
    chain, rows, shape = _build(member, False, model), torch.arange(3), (3, model.section.hidden)
    shallow, deep = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for _depth in range(2))
    batch = text_batch(model, [5, 3]).with_inserts([(shallow, rows)], {1: [(deep, rows)]})
    # Held while its graph is read: in torch 2.11 the node of a Python function does not keep what it stands for.
    loss = chain(None, batch)[MAIN]
    seen, waiting, crossings = set(), [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            given = [before for before, _output in node.next_functions]
            waiting += given
            if "RegisterPostBackward" in node.name():
                crossings.add(sum(before is not None for before in given))
    return crossings if member.world.rank == 0 else None


def _step_task(member: Member, reshard: bool) -> object:
    """How many groups there are, gathers of a step behind an evaluation, groups that its reduce action works on,
    gathers under way behind its last backward, and groups whose forward is remembered when all is over."""
    chain = _build(member, reshard)
    states = dict.fromkeys(state for m in chain.modules() if (state := _get_module_fsdp_state(m)) is not None)
    groups = [state._fsdp_param_group for state in states if state._fsdp_param_group is not None]
    release(chain)  # A module that nothing has reached yet gives back what it does not hold.
    _evaluate(chain)
    begin_accumulation(chain, reshard)
    with _calls(fsdp2, "foreach_all_gather") as gathers:
        for number, lengths in enumerate(MICROBATCHES):
            loss = chain(None, text_batch(MODEL, lengths, 2))[MAIN]
            if number == len(MICROBATCHES) - 1:
                begin_reduction(chain)
            loss.backward()
    pending = sum(group._all_gather_result is not None for group in groups)
    with _calls(fsdp2.FSDPParamGroup, "post_backward") as reduced_late:
        reduce_gradients(chain, reached=True)
    finish_reduction(chain, reached=True)
    assert all(parameter.grad is not None for parameter in chain.parameters())
    _evaluate(chain)
    kept = len(next(iter(states))._comm_ctx.post_forward_order)
    found = (len(groups), len(gathers), len(reduced_late), pending, kept)
    return found if member.world.rank == 0 else None


def _build(member: Member, reshard: bool, model: Model = MODEL) -> Chain:
    layout = Layout(module="text", ranks=tuple(range(8)), dp_shard=8, reshard=reshard)
    # Each part by itself, as those of large models are.
    with patch("counterpoint.parallelize.fsdp._UNIT", 1):
        how = Parallelism(precision=FLOAT64, rules=rules_of(model.section))
        chain = parallel_chain(member, model, [layout], how).chain
    for parameter in chain.parameters():
        local(parameter.detach()).fill_(0.1)
    return chain


def _evaluate(chain: Chain) -> None:
    with torch.no_grad():
        chain(None, text_batch(MODEL, [4], 2))
    release(chain)


@contextmanager
def _calls(owner: Any, name: str) -> Iterator[list[None]]:
    """One entry for each call of a function of FSDP2."""
    calls: list[None] = []
    plain = getattr(owner, name)

    def called(*args: Any, **others: Any) -> Any:
        calls.append(None)
        return plain(*args, **others)

    with patch.object(owner, name, called):
        yield calls
