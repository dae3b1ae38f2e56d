"""Rows without a label are left out behind the last part that mixes rows, and no gradient changes by it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from counterpoint.families import rules_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.parallelize.weights import defer_weights
from counterpoint.plan.samples import NO_LABEL
from tests.unit.models.model_samples import DECODERS, DEEP, LAYER_KINDS, build, changed, text_batch

ENDINGS = {pattern: changed(DECODERS["hybrid"], ffn=12, pattern=pattern) for pattern in ("*--", "E-", "M", "--")}
CASES = DECODERS | ENDINGS | {"tied ending": changed(DECODERS["tied"], pattern="*--"), "deep": DEEP}
LENGTHS, PADDING = (7, 1, 4), 3
LABELLED: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda rows: rows < 0,
    "one": lambda rows: rows == 2,
    "some": lambda rows: rows % 3 == 1,
    "all": lambda rows: rows >= 0,
}


def _batch(model: Model, which: str) -> TextBatch:
    """Documents and padding of which some rows have labels; every row is computed."""
    batch = text_batch(model, LENGTHS, PADDING)
    rows = torch.arange(len(batch.ids))
    labelled = LABELLED[which](rows)
    further = tuple(replace(depth, labels=depth.labels.where(labelled, NO_LABEL)) for depth in batch.mtp)
    return replace(batch, labels=(rows * 5 % model.ends.vocab).where(labelled, NO_LABEL), mtp=further)


def _marked(batch: TextBatch) -> TextBatch:
    """The same batch, which says which of its rows have a label, at every depth."""
    further = tuple(replace(depth, scored=_labelled(depth.labels)) for depth in batch.mtp)
    return replace(batch, scored=_labelled(batch.labels), mtp=further)


def _labelled(labels: Tensor) -> Tensor:
    return torch.nonzero(labels != NO_LABEL)[:, 0]


def _trained(chain: Chain, batch: TextBatch, rows: Tensor | None = None) -> dict[str, Tensor]:
    """The loss, every gradient, and that of the rows that came in."""
    loss = chain(rows, batch)[MAIN]
    loss.backward()
    found = {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}
    assert found.keys() == dict(chain.named_parameters()).keys()
    into = {} if rows is None or rows.grad is None else {"rows": rows.grad}
    return found | into | {"loss": loss.detach()}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-13, msg=name)


def _rows_into(chain: Chain) -> dict[str, int]:
    """Filled by the next forward: how many rows come into each part."""
    seen: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _part, inputs: seen.update({name: 0 if inputs[0] is None else len(inputs[0])})

    for name, part in chain.parts():
        part.register_forward_pre_hook(note(name))
    return seen


@pytest.mark.parametrize("which", LABELLED)
@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_loss_and_every_gradient_stay(model: Model, which: str) -> None:
    batch = _batch(model, which)
    expected = _trained(build(model), batch)
    _assert_same(_trained(build(model), _marked(batch)), expected)
    assert bool(expected["loss"] > 0) == (which != "none")


@pytest.mark.parametrize("which", ["none", "some"])
def test_recomputed_layers_keep_and_compute_scored_rows_alone(which: str) -> None:
    model = ENDINGS["*--"]
    chain, batch = build(model), _batch(model, which)
    apply_recompute(chain, LAYER_KINDS)
    _assert_same(_trained(chain, _marked(batch)), _trained(build(model), batch))


@pytest.mark.parametrize("which", ["none", "some"])
def test_deferred_weight_gradients_stay(which: str) -> None:
    model = ENDINGS["*--"]
    chain, batch = build(model), _batch(model, which)
    queue = defer_weights(chain)
    with queue.collecting():
        loss = chain(None, _marked(batch))[MAIN]
        loss.backward()
    queue.take().run()
    found = {name: p.grad for name, p in chain.named_parameters() if p.grad is not None}
    _assert_same(found | {"loss": loss.detach()}, _trained(build(model), batch))


@pytest.mark.parametrize(
    ("model", "narrow"),
    [
        (ENDINGS["*--"], {"layers.1", "layers.2", "norm", "head"}),
        (DECODERS["hybrid"], {"norm", "head"}),
        (changed(ENDINGS["*--"], pattern="-*-"), {"layers.2", "norm", "head"}),
        (changed(DEEP, inserts=(2,)), {"layers.3", "norm", "head"}),
        (DEEP, {"norm", "head"}),
        (DECODERS["further"], set()),
    ],
    ids=["layers", "experts", "a layer before", "features before", "features behind", "further tokens"],
)
def test_the_run_begins_behind_what_mixes_rows_or_adds_to_them(model: Model, narrow: set[str]) -> None:
    chain, batch = build(model), _marked(_batch(model, "some"))
    assert batch.scored is not None
    seen = _rows_into(chain)
    chain(None, batch)
    whole, few = len(batch.ids), len(batch.scored)
    assert seen.pop("embed") == 0
    assert seen == {name: few if name in narrow else whole for name in seen}
    assert narrow <= seen.keys()


@pytest.mark.parametrize("start", [2, 3, 4, 5])
def test_a_last_stage_gives_rows_without_a_label_no_gradient(start: int) -> None:
    model = ENDINGS["*--"]
    parts, batch = parts_of(model), _batch(model, "some")
    rows = torch.randn(len(batch.ids), model.section.hidden, dtype=torch.float64)
    mine, theirs = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    found = _trained(build(model, parts[start:]), _marked(batch), mine)
    _assert_same(found, _trained(build(model, parts[start:]), batch, theirs))
    assert not found["rows"][batch.labels == NO_LABEL].any()
    assert found["rows"].shape == rows.shape


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 4), (4, 5)])
def test_a_stage_before_the_head_hands_on_every_row(start: int, stop: int) -> None:
    model = ENDINGS["*--"]
    batch = _marked(_batch(model, "some"))
    rows = None if start == 0 else torch.randn(len(batch.ids), model.section.hidden, dtype=torch.float64)
    out = build(model, parts_of(model)[start:stop])(rows, batch)[MAIN]
    assert len(out) == len(batch.ids)


def test_every_depth_scores_rows_of_its_own() -> None:
    model = DECODERS["further"]
    chain, batch = build(model), _marked(text_batch(model, LENGTHS, PADDING))
    head = chain.get_submodule("head.loss")
    seen: list[int] = []
    head.register_forward_pre_hook(lambda _loss, inputs: seen.append(len(inputs[0])))
    chain(None, batch)
    labels = [*(depth.labels for depth in batch.mtp), batch.labels]
    assert seen == [int((one != NO_LABEL).sum()) for one in labels]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("sequence_parallel", [True, False])
def test_ranks_that_hold_shares_of_rows_keep_all_of_them(sequence_parallel: bool) -> None:
    model = ENDINGS["*--"]
    with torch.device("meta"):
        chain = build_chain(parts_of(model))
    pair = TensorGroup(dist.ProcessGroup(HashStore(), 0, 2), 0, 2)
    apply_tensor_parallel(chain, pair, sequence_parallel, rules_of(model.section))
    batch, rows = _marked(_batch(model, "some")), torch.ones(6, model.section.hidden)
    kept, same = chain.narrow(rows, batch)
    assert kept is rows
    assert same is batch
