"""Recomputed layers give the same bits, keep less, and count what they route once."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from counterpoint.execute.stage import Stage
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.models.batch import Batch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.dispatch import LocalDispatch
from counterpoint.models.seams import BALANCE, COUNTS, DispatchState
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.plan.graph import Node
from tests.unit.models.model_samples import (
    DECODERS,
    HYBRID,
    LAYER_KINDS,
    MODELS,
    SEVERAL,
    batch_with,
    build,
    changed,
    empty_batch,
    text_batch,
)

DECODER = changed(HYBRID, pattern="*-ME", ffn=12)
CASES = [(name, kind if name in DECODERS else "L") for name in MODELS for kind in ("*-ME", "E")]


def _batch(model: Model) -> Batch:
    return batch_with(model, SEVERAL, 4)


def _recomputed(model: Model, kinds: frozenset[str]) -> Chain:
    chain = build(model)
    apply_recompute(chain, kinds)
    return chain


def _trained(chain: Chain, batch: Batch) -> dict[str, Tensor]:
    """The output and the gradients of the sum of its sines."""
    out = chain(None, batch)[MAIN]
    out.sin().sum().backward()
    found = {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}
    assert found.keys() == dict(chain.named_parameters()).keys()
    return found | {"output": out.detach()}


def _kept_bytes(chain: Chain, batch: Batch) -> int:
    """Bytes of the distinct tensors, weights aside, that wait for backward."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in chain.parameters()}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chain(None, batch)
    return sum(kept.values())


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize(("name", "kinds"), CASES)
def test_no_bit_changes(name: str, kinds: str, filled: bool) -> None:
    model = MODELS[name]
    batch = _batch(model) if filled else empty_batch(model, 4)
    plain = _trained(build(model), batch)
    recomputed = _trained(_recomputed(model, frozenset(kinds)), batch)
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(recomputed[key], plain[key]) for key in plain)


@pytest.mark.parametrize("kind", sorted(LAYER_KINDS))
def test_each_kind_keeps_less_and_all_keep_least(kind: str) -> None:
    model = MODELS["merging"] if kind == "L" else DECODER
    batch = _batch(model)
    everything = _kept_bytes(_recomputed(model, LAYER_KINDS), batch)
    some = _kept_bytes(_recomputed(model, frozenset(kind)), batch)
    plain = _kept_bytes(build(model), batch)
    assert everything <= some < plain
    assert everything < 0.6 * plain


def test_a_kind_that_is_not_there_changes_nothing() -> None:
    assert _kept_bytes(_recomputed(DECODER, frozenset("L")), _batch(DECODER)) == _kept_bytes(
        build(DECODER), _batch(DECODER)
    )


def test_parameters_keep_their_names() -> None:
    names = [name for name, _parameter in build(DECODER).named_parameters()]
    assert [name for name, _parameter in _recomputed(DECODER, LAYER_KINDS).named_parameters()] == names


class _Counting(nn.Module):
    """Counts how often rows come by."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.times += 1
        return rows


def test_results_leave_once_and_rows_are_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    announce = LocalDispatch.announce

    def counted(self: LocalDispatch, experts: Tensor, counts: Tensor, rows: int) -> DispatchState:
        calls["announced"] += 1
        return announce(self, experts, counts, rows)

    monkeypatch.setattr(LocalDispatch, "announce", counted)
    plain = build(DECODER)(None, text_batch(DECODER, [5, 3], 2))
    chain = build(DECODER)
    moe = next(module for module in chain.modules() if isinstance(module, Moe))
    moe.rows_enter = counting = _Counting()
    apply_recompute(chain, {"E"})
    stage = Stage(Node("text", 0), chain, is_loss=True, counts_loss=True, results=chain.results)
    for forwards in (1, 2):
        calls.clear()
        stage.begin()
        assert stage.forward(0, text_batch(DECODER, [5, 3], 2), (), keep=True) == {}
        stage.backward(0, {}, is_split=False)
        assert counting.times == 2 * forwards
        assert calls["announced"] == 1
        for result in (COUNTS, BALANCE):
            (found,) = stage.results(f"layers.3.moe.{result}")
            assert torch.equal(found, plain[f"layers.3.moe.{result}"])


def test_evaluation_announces_as_ever() -> None:
    chain = _recomputed(DECODER, LAYER_KINDS)
    with torch.no_grad():
        ours, plain = chain(None, _batch(DECODER)), build(DECODER)(None, _batch(DECODER))
    assert torch.equal(ours[MAIN], plain[MAIN])
