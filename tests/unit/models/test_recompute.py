"""Recomputed layers give the same bits, keep less, and count what they route once."""

import gc
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from counterpoint.execute.stage import Stage
from counterpoint.kinds.family import Model
from counterpoint.layers.attention import sublayer
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.models.batch import Batch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.dispatch import LocalDispatch
from counterpoint.models.seams import BALANCE, COUNTS, DispatchState
from counterpoint.parallelize.discard import apply_discard
from counterpoint.parallelize.keep import InPlace, _Recording
from counterpoint.parallelize.offload import HostStore
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.plan.activations import PARTS
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

    def counted(self: LocalDispatch, experts: Tensor, counts: Tensor, rows: int, *, is_even: bool) -> DispatchState:
        calls["announced"] += 1
        return announce(self, experts, counts, rows, is_even=is_even)

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


POLICIES = {
    "keeps attention": (LAYER_KINDS, {"attention"}, set(), False),
    "keeps attention on the host": (LAYER_KINDS, {"attention"}, set(), True),
    "parts": (frozenset(), set(), set(PARTS), False),
    "parts, the rest on the host": (frozenset(), set(), set(PARTS), True),
    "some layers, and parts of others": (frozenset("*E"), {"attention"}, {"norms", "activations"}, True),
    "on the host": (frozenset(), set(), set(), True),
}


def _keeping_less(model: Model, policy: str, store: InPlace | HostStore | None = None) -> Chain:
    kinds, keeps, parts, offloads = POLICIES[policy]
    chain = build(model)
    held = store if store is not None else HostStore() if offloads else InPlace()
    apply_recompute(chain, kinds, keeps, held)
    apply_discard(chain, parts, kinds, held)
    return chain


_OFTEN = ("hybrid", "further experts", "radio")
"""Models that are tried in every run."""


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _OFTEN else pytest.mark.more) for name in MODELS]
)
def test_no_policy_changes_a_bit(name: str, policy: str, filled: bool) -> None:
    model = MODELS[name]
    batch = _batch(model) if filled else empty_batch(model, 4)
    plain = _trained(build(model), batch)
    found = _trained(_keeping_less(model, policy), batch)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[key], plain[key]) for key in plain)


@pytest.mark.parametrize("name", ["hybrid", "radio"])
def test_attention_that_is_kept_is_computed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    attend = sublayer._attend_padded

    def counted(*given: Any) -> Tensor:
        calls["attend"] += 1
        return attend(*given)

    monkeypatch.setattr(sublayer, "_attend_padded", counted)
    model = MODELS[name]
    batch, found = _batch(model), {}
    for policy, keeps in (("all", set()), ("none", {"attention"})):
        chain = build(model)
        apply_recompute(chain, LAYER_KINDS, keeps)
        calls.clear()
        _trained(chain, batch)
        found[policy] = calls["attend"]
    assert found["all"] == 2 * found["none"] > 0


class _Counted:
    """A store that counts the bytes of distinct memory that it holds."""

    def __init__(self) -> None:
        self.held: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        self.held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    def unpack(self, packed: Any) -> Tensor:
        assert isinstance(packed, Tensor)
        return packed

    def bytes(self, chain: Chain) -> int:
        """Of what is no weight."""
        weights = {parameter.untyped_storage().data_ptr() for parameter in chain.parameters()}
        return sum(tensor.untyped_storage().nbytes() for place, tensor in self.held.items() if place not in weights)


def test_attention_that_is_kept_holds_its_output_and_not_its_inputs() -> None:
    # One document: attention needs no padding, so a fused kernel reads queries, keys and values.
    batch = text_batch(DECODER, [8], 0)
    chain, store = build(DECODER), _Counted()
    apply_recompute(chain, {"*"}, {"attention"}, store)
    out = chain(None, batch)[MAIN]
    heads = next(module for module in chain.modules() if isinstance(module, sublayer.Attention))
    output = 8 * heads.q.weight.shape[0] * out.element_size()
    sums = 8 * heads.q.weight.shape[0] // heads.head_dim * out.element_size()
    assert output < store.bytes(chain) <= output + 2 * sums + 64


@pytest.mark.parametrize("part", PARTS)
def test_each_part_keeps_less(part: str) -> None:
    batch, bytes_of = _batch(DECODER), {}
    for parts in ((), (part,)):
        chain, store = build(DECODER), _Counted()
        apply_discard(chain, set(parts), frozenset(), store)
        kept = chain(None, batch)
        bytes_of[parts] = store.bytes(chain)
        del kept
    assert bytes_of[(part,)] < 0.97 * bytes_of[()]


def test_weights_stay_where_they_are_and_rows_wait_on_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[tuple[Tensor, Any]] = []
    pack = HostStore.pack

    def noted(self: HostStore, tensor: Tensor) -> Any:
        packed.append((tensor, pack(self, tensor)))
        return packed[-1][1]

    monkeypatch.setattr(HostStore, "pack", noted)
    chain = _keeping_less(DECODER, "on the host")
    weights = {parameter.untyped_storage().data_ptr() for parameter in chain.parameters()}
    out = chain(None, _batch(DECODER))[MAIN]
    moved = []
    for tensor, held in packed:
        is_weight = tensor.untyped_storage().data_ptr() in weights
        assert not is_weight or held is tensor
        assert is_weight or held is not tensor or not tensor.is_floating_point() or not tensor.is_contiguous()
        if held is not tensor:
            moved.append(id(held.moved))
    assert out.requires_grad
    # The output of a norm is saved by each of the products that read it.
    assert 0 < len(set(moved)) < len(moved)


@pytest.mark.parametrize("name", ["hybrid", "radio"])
def test_inputs_of_attention_that_is_kept_are_freed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[StorageWeakRef] = []
    run = _Recording.run

    def noted(self: _Recording, function: Any, tensors: tuple[Tensor, ...], others: tuple[Any, ...]) -> Tensor:
        found.extend(StorageWeakRef(tensor.untyped_storage()) for tensor in tensors)
        return run(self, function, tensors, others)

    monkeypatch.setattr(_Recording, "run", noted)
    out = _keeping_less(MODELS[name], "keeps attention")(None, _batch(MODELS[name]))[MAIN]
    assert out.requires_grad
    assert found
    gc.collect()
    assert all(storage.expired() for storage in found)


@pytest.mark.parametrize("name", ["hybrid", "radio"])
@pytest.mark.parametrize("policy", [policy for policy, (*_others, offloads) in POLICIES.items() if offloads])
def test_what_waits_on_the_host_is_freed_on_the_device(name: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[StorageWeakRef] = []
    pack = HostStore.pack

    def noted(self: HostStore, tensor: Tensor) -> Any:
        packed = pack(self, tensor)
        if packed is not tensor:
            found.append(StorageWeakRef(tensor.untyped_storage()))
        return packed

    monkeypatch.setattr(HostStore, "pack", noted)
    out = _keeping_less(MODELS[name], policy)(None, _batch(MODELS[name]))[MAIN]
    assert out.requires_grad
    assert found
    gc.collect()
    assert all(storage.expired() for storage in found)
