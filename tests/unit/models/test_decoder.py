"""What is particular to decoders: names, tying, inserts, dtypes, rotation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.families.parts import parts_of
from counterpoint.layers.attention.rotary import Rotary
from counterpoint.models.chain import MAIN, build_chain
from counterpoint.models.head import VocabularyHead
from counterpoint.models.seams import run
from counterpoint.plan.samples import NO_TOKEN
from tests.gradients import gradient_of
from tests.unit.models.model_samples import DECODERS, build, text_batch


def test_parameter_names_are_those_of_the_whole_model_in_every_stage() -> None:
    parts = parts_of(DECODERS["grouped"])
    with torch.device("meta"):
        stages = [build_chain(parts[:3]), build_chain(parts[3:])]
        whole = build_chain(parts)
    names = [name for stage in stages for name, _ in stage.named_parameters()]
    assert names == [name for name, _ in whole.named_parameters()]
    assert {"embed.weight", "layers.2.attention.q.weight", "layers.3.mlp.gate.weight"} <= set(names)
    assert {"layers.0.attention.q_norm.weight", "layers.3.norm.weight"} <= set(names)
    assert {"norm.weight", "head.weight"} <= set(names)


def test_a_tied_head_reads_the_embedding_of_its_chain_even_after_materialising() -> None:
    chain = build(DECODERS["tied"])
    assert "head.weight" not in dict(chain.named_parameters())
    assert chain.shared == {"embed"}
    embed, head = chain.get_submodule("embed"), chain.get_submodule("head")
    assert isinstance(head, VocabularyHead)
    assert head.matrix() is embed.weight


def test_a_tied_head_without_the_embedding_has_words_of_its_own() -> None:
    chain = build(DECODERS["tied"], parts_of(DECODERS["tied"])[2:])
    assert "head.weight" in dict(chain.named_parameters())
    assert not chain.shared


@pytest.mark.parametrize("name", ["grouped", "sandwich"])
def test_placeholders_take_the_inserted_features_and_teach_no_word(name: str) -> None:
    model = DECODERS[name]
    batch = text_batch(model, (6,))
    places = torch.tensor([1, 4])
    features = torch.ones(2, model.section.hidden, dtype=torch.float64, requires_grad=True)
    batch = replace(batch, ids=batch.ids.index_fill(0, places, NO_TOKEN)).with_inserts(((features, places),))
    embed = build(model, parts_of(model)[:1])
    rows = embed(None, batch)[MAIN]
    assert torch.equal(rows[places], features)
    rows.sum().backward()
    weight = embed.get_parameter("embed.weight")
    taught = 8.0 * model.section.embedding_scale
    assert torch.equal(gradient_of(weight).sum(1), torch.bincount(batch.ids[batch.ids >= 0], minlength=11) * taught)
    assert torch.equal(gradient_of(features), torch.ones_like(features))


def test_loss_is_the_mean_cross_entropy_of_the_logits() -> None:
    model = DECODERS["grouped"]
    batch = text_batch(model, (4, 3))
    batch = replace(batch, loss_denominator=float((batch.labels >= 0).sum()))
    chain = build(model)
    rows: Tensor | None = None
    for _, part in chain.parts()[:-1]:
        rows = run(part, rows, batch).rows
    head = chain.get_submodule("head")
    assert isinstance(head, VocabularyHead)
    assert rows is not None
    expected = F.cross_entropy(head.logits(rows), batch.labels)
    assert chain(None, batch)[MAIN].item() == pytest.approx(expected.item(), abs=1e-14)


def test_the_loss_of_bfloat16_rows_is_float32() -> None:
    chain = build(DECODERS["grouped"]).to(torch.bfloat16)
    loss = chain(None, text_batch(DECODERS["grouped"], (4,)))[MAIN]
    assert loss.dtype is torch.float32
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in chain.parameters())


def test_rotated_products_depend_on_the_distance_only() -> None:
    rotary = Rotary(width=6, theta=100.0)
    batch = text_batch(DECODERS["grouped"], (4, 4))
    near = replace(batch, positions=torch.arange(8))
    far = replace(batch, positions=torch.arange(8) + 5)
    rows = torch.randn(8, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    products = []
    for placed in (near, far):
        queries, keys = rotary(rows, rows, rotary.cos_sin(placed, rows.dtype))
        products.append(torch.einsum("qhd,khd->hqk", queries, keys))
    assert (products[0] - products[1]).abs().max().item() <= 1e-12
    assert (products[0] - torch.einsum("qhd,khd->hqk", rows, rows)).abs().max().item() > 1e-2


def test_layers_share_angles_and_other_positions_or_dtypes_have_others() -> None:
    first, second, other = Rotary(6, 100.0), Rotary(6, 100.0), Rotary(6, 200.0)
    batch = text_batch(DECODERS["grouped"], (4, 4))
    cos_sin = first.cos_sin(batch, torch.float64)
    assert second.cos_sin(batch, torch.float64) is first.cos_sin(batch, torch.float64) is cos_sin
    assert other.cos_sin(batch, torch.float64) is not cos_sin
    assert first.cos_sin(batch, torch.float32)[0].dtype is torch.float32
    # A batch with inserts is a copy that shares what its layers keep; one that is placed anew must not.
    assert first.cos_sin(batch.with_inserts(()), torch.float64) is cos_sin
    moved = replace(batch, positions=batch.positions + 1)
    assert not torch.equal(first.cos_sin(moved, torch.float64)[0], cos_sin[0])
    assert torch.equal(first.cos_sin(batch, torch.float64)[0], cos_sin[0])
