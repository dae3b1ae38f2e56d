"""Backward in two actions gives the gradients of backward in one; in between no weight has any."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from model_samples import (
    GATED,
    HYBRID,
    LAYER_KINDS,
    VITS,
    WHISPERS,
    audio_batch,
    empty_batch,
    model,
    patch_batch,
    text_batch,
)
from torch import Tensor, nn
from weight_holders import deferred_names

from counterpoint.models.batch import Batch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.weights import WeightQueue, defer_weights
from counterpoint.plan.sizes import ModelSizes, VitSizes, WhisperSizes

UNTIED = replace(HYBRID, pattern="*-ME", ffn=12, bias=True, qk_norm=True)
MODELS: dict[str, ModelSizes] = {
    "hybrid": UNTIED,
    "tied hybrid": replace(UNTIED, tied=True),
    "gated experts": replace(GATED, pattern="*-E", ffn=12),
    **VITS,
    **WHISPERS,
}
ALL_MODELS = pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS.keys())


def batches(sizes: ModelSizes) -> list[Batch]:
    """Three microbatches of different documents, one of them without any."""
    if isinstance(sizes, VitSizes):
        return [patch_batch(sizes, [(4, 6), (2, 2)], 4), empty_batch(sizes, 4), patch_batch(sizes, [(2, 4)])]
    if isinstance(sizes, WhisperSizes):
        return [audio_batch(sizes, [6, 2], 4), empty_batch(sizes, 4), audio_batch(sizes, [8])]
    return [text_batch(sizes, [5, 3], 2), empty_batch(sizes, 4), text_batch(sizes, [1, 6])]


def scalar(chain: Chain, batch: Batch) -> Tensor:
    """The loss, or of an encoder's rows a sum with a different factor everywhere."""
    out: Tensor = chain(None, batch)[MAIN]
    return out if out.dim() == 0 else (out * torch.arange(1.0, out.numel() + 1).view_as(out).cos()).sum()


def gradients(chain: Chain) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in chain.named_parameters() if p.grad is not None}


def undivided(sizes: ModelSizes) -> dict[str, Tensor]:
    """The gradients of three microbatches in plain modules."""
    chain = model(sizes)
    for batch in batches(sizes):
        scalar(chain, batch).backward()
    return gradients(chain)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-12 * gradient.abs().max(), name


def run_divided(chain: Chain, queue: WeightQueue, sizes: ModelSizes) -> set[str]:
    """F0 F1 F2 I0 I1 W0 B2 W1; returns the names of parameters with a gradient after the input actions."""
    losses = [scalar(chain, batch) for batch in batches(sizes)]
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
def test_two_actions_equal_one(sizes: ModelSizes, recomputed: bool) -> None:
    chain = model(sizes)
    if recomputed:
        apply_recompute(chain, LAYER_KINDS)
    deferred = deferred_names(chain)
    early = run_divided(chain, defer_weights(chain), sizes)
    assert early.isdisjoint(deferred)
    assert early | deferred == {name for name, _parameter in chain.named_parameters()}
    assert_equal(gradients(chain), undivided(sizes))


@ALL_MODELS
def test_outside_of_collecting_backward_is_whole(sizes: ModelSizes) -> None:
    chain = model(sizes)
    queue = defer_weights(chain)
    for batch in batches(sizes):
        scalar(chain, batch).backward()
    assert_equal(gradients(chain), undivided(sizes))
    queue.take().run()
    assert_equal(gradients(chain), undivided(sizes))


@ALL_MODELS
def test_frozen_weights_leave_nothing(sizes: ModelSizes) -> None:
    chain = model(sizes)
    kinds = (".mlp.", "experts", "shared")
    frozen = {name for name, _parameter in chain.named_parameters() if any(kind in name for kind in kinds)}
    frozen |= {"embed.weight", "embed.patch.weight"}
    for name, parameter in chain.named_parameters():
        parameter.requires_grad_(name not in frozen)
    run_divided(chain, defer_weights(chain), sizes)
    expected = {name: gradient for name, gradient in undivided(sizes).items() if name not in frozen}
    assert expected
    assert_equal(gradients(chain), expected)


def test_without_gradients_nothing_is_kept() -> None:
    chain = model(UNTIED)
    plain = scalar(chain, batches(UNTIED)[0])
    queue = defer_weights(chain)
    with torch.no_grad(), queue.collecting():
        deferred = scalar(chain, batches(UNTIED)[0])
    assert torch.equal(deferred, plain.detach())
    assert deferred.grad_fn is None


def test_work_runs_once_and_lets_go_of_its_rows() -> None:
    chain = model(UNTIED)
    queue = defer_weights(chain)
    seen: list[weakref.ref[Tensor]] = []

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
