"""Backward in two actions gives the gradients of backward in one; in between no weight has any."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from counterpoint.kinds.family import Model
from counterpoint.models.batch import Batch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.weights import WeightQueue, defer_weights
from tests.unit.models.model_samples import (
    GATED,
    HYBRID,
    LAYER_KINDS,
    SEVERAL,
    VITS,
    WHISPERS,
    batch_with,
    build,
    changed,
    empty_batch,
)
from tests.unit.models.weight_holders import deferred_names

UNTIED = changed(HYBRID, pattern="*-ME", ffn=12, bias=True, qk_norm=True)
MODELS: dict[str, Model] = {
    "hybrid": UNTIED,
    "tied hybrid": changed(UNTIED, tied=True),
    "gated experts": changed(GATED, pattern="*-E", ffn=12),
    **VITS,
    **WHISPERS,
}
OTHERS = {"decoder": (1, 6), "vit": ((2, 4),), "whisper": (8,)}
ALL_MODELS = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def batches(model: Model) -> list[Batch]:
    """Three microbatches of different documents, one of them without any."""
    return [batch_with(model, SEVERAL, 4), empty_batch(model, 4), batch_with(model, OTHERS)]


def scalar(chain: Chain, batch: Batch) -> Tensor:
    """The loss, or of an encoder's rows a sum with a different factor everywhere."""
    out: Tensor = chain(None, batch)[MAIN]
    return out if out.dim() == 0 else (out * torch.arange(1.0, out.numel() + 1).view_as(out).cos()).sum()


def gradients(chain: Chain) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in chain.named_parameters() if p.grad is not None}


def undivided(model: Model) -> dict[str, Tensor]:
    """The gradients of three microbatches in plain modules."""
    chain = build(model)
    for batch in batches(model):
        scalar(chain, batch).backward()
    return gradients(chain)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-12 * gradient.abs().max(), name


def run_divided(chain: Chain, queue: WeightQueue, model: Model) -> set[str]:
    """F0 F1 F2 I0 I1 W0 B2 W1; returns the names of parameters with a gradient after the input actions."""
    losses = [scalar(chain, batch) for batch in batches(model)]
    works = []
    for loss in losses[:2]:
        with queue.collecting():
            loss.backward()
        works.append(queue.take())
    early = set(gradients(chain))
    works[0].run()
    losses[2].backward()
    works[1].run()
    return early


@ALL_MODELS
@pytest.mark.parametrize("recomputed", [False, True])
def test_two_actions_equal_one(model: Model, recomputed: bool) -> None:
    chain = build(model)
    if recomputed:
        apply_recompute(chain, LAYER_KINDS)
    deferred = deferred_names(chain)
    early = run_divided(chain, defer_weights(chain), model)
    assert early.isdisjoint(deferred)
    assert early | deferred == {name for name, _parameter in chain.named_parameters()}
    assert_equal(gradients(chain), undivided(model))


@ALL_MODELS
def test_outside_of_collecting_backward_is_whole(model: Model) -> None:
    chain = build(model)
    queue = defer_weights(chain)
    for batch in batches(model):
        scalar(chain, batch).backward()
    assert_equal(gradients(chain), undivided(model))
    queue.take().run()
    assert_equal(gradients(chain), undivided(model))


@ALL_MODELS
def test_frozen_weights_leave_nothing(model: Model) -> None:
    chain = build(model)
    kinds = (".mlp.", "experts", "shared")
    frozen = {name for name, _parameter in chain.named_parameters() if any(kind in name for kind in kinds)}
    frozen |= {"embed.weight", "embed.patch.weight"}
    for name, parameter in chain.named_parameters():
        parameter.requires_grad_(name not in frozen)
    run_divided(chain, defer_weights(chain), model)
    expected = {name: gradient for name, gradient in undivided(model).items() if name not in frozen}
    assert expected
    assert_equal(gradients(chain), expected)


def test_without_gradients_nothing_is_kept() -> None:
    chain = build(UNTIED)
    plain = scalar(chain, batches(UNTIED)[0])
    queue = defer_weights(chain)
    with torch.no_grad(), queue.collecting():
        deferred = scalar(chain, batches(UNTIED)[0])
    assert torch.equal(deferred, plain.detach())
    assert deferred.grad_fn is None


def test_work_runs_once_and_lets_go_of_its_rows() -> None:
    chain = build(UNTIED)
    queue = defer_weights(chain)
    seen: list[weakref.ref[torch.UntypedStorage]] = []

    def note(_module: nn.Module, _inputs: object, rows: Tensor) -> None:
        seen.append(weakref.ref(rows.untyped_storage()))

    chain.get_submodule("layers.1.norm").register_forward_hook(note)
    loss = scalar(chain, batches(UNTIED)[0])
    with queue.collecting():
        loss.backward()
    work = queue.take()
    del loss
    gc.collect()
    assert seen[0]() is not None
    work.run()
    gc.collect()
    assert seen[0]() is None
    once = gradients(chain)
    work.run()
    assert_equal(gradients(chain), once)
