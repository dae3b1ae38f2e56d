"""A mixture of experts against its definition, row by row."""

import math

import pytest
import torch
from torch import Tensor

from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.router import Router, next_bias
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN
from counterpoint.models.seams import BALANCE, COUNTS
from tests.unit.models.model_samples import GATED, HYBRID, build, changed, text_batch

LENGTHS = (5, 1, 7)
CASES = {"sigmoid": HYBRID, "softmax": GATED, "softmax, tanh": changed(GATED, activation="geglu_tanh")}


def mixture(model: Model) -> Moe:
    number = model.section.pattern.index("E") + 1
    layer = build(model, parts_of(model)[number : number + 1])
    return next(module for module in layer.modules() if isinstance(module, Moe))


def silu(values: Tensor) -> Tensor:
    return values * values.sigmoid()


def gelu_tanh(values: Tensor) -> Tensor:
    return values * (1 + (math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)).tanh()) / 2


def rows_of(model: Model, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, model.section.hidden, generator=generator, dtype=torch.float64, requires_grad=True)


def by_definition(model: Model, moe: Moe, rows: Tensor, batch: TextBatch) -> tuple[Tensor, Tensor, list[int]]:
    """Outputs, balance loss and counts by loops over rows."""
    section, experts = model.section.moe, moe.experts
    gate = silu if model.section.activation == "swiglu" else gelu_tanh
    counts = [0] * section.experts
    outputs, start, balance = [], 0, rows.new_zeros(())
    for length in batch.segments.lengths:
        chosen_here = rows.new_zeros(section.experts)
        shares_here = rows.new_zeros(section.experts)
        for row in rows[start : start + length]:
            logits = moe.router.weight @ row
            scores = logits.softmax(0) if section.router == "softmax" else logits.sigmoid()
            wanted = scores if moe.router.bias is None else scores + moe.router.bias
            ranked = wanted.detach().tolist()
            chosen = sorted(range(section.experts), key=lambda i: (-ranked[i], i))[: section.top_k]
            total = sum(scores[i] for i in chosen) if section.normalize else 1.0
            out = moe.shared(row[None])[0]
            for i in chosen:
                inner = experts.up[i] @ row
                inner = inner.relu() ** 2 if experts.gate is None else gate(experts.gate[i] @ row) * inner
                out = out + section.scale * scores[i] / total * (experts.down[i] @ inner)
                counts[i] += 1
                chosen_here[i] += 1
            shares_here = shares_here + scores / scores.sum()
            outputs.append(out)
        start += length
        if length:
            frequency = chosen_here * section.experts / (section.top_k * length)
            balance = balance + (frequency * shares_here / length).sum()
    return torch.stack(outputs), balance * section.balance / batch.document_denominator, counts


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", CASES)
def test_outputs_balance_counts_and_gradients_are_those_of_the_definition(name: str, padding: int) -> None:
    model = CASES[name]
    batch, moe, plain = text_batch(model, LENGTHS, padding), mixture(model), mixture(model)
    rows = rows_of(model, sum(LENGTHS) + padding)
    found, results = moe(rows, batch)
    expected, balance, counts = by_definition(model, plain, rows, batch)
    used = sum(LENGTHS)
    assert (found[:used] - expected).abs().max() <= 1e-12
    assert results[COUNTS].tolist() == counts
    assert abs(float(results[BALANCE] - balance.detach())) <= 1e-14
    weights = torch.arange(expected.numel(), dtype=torch.float64).sin().view_as(expected)
    (found[:used] * weights).sum().backward()
    ((expected * weights).sum() + balance).backward()
    for (key, parameter), other in zip(moe.named_parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        assert (parameter.grad - other.grad).abs().max() <= 1e-12 * max(1.0, float(other.grad.abs().max())), key


def test_ties_go_to_the_lower_expert() -> None:
    router = Router(2, MoeConfig(experts=6, top_k=3, ffn=1)).double()
    torch.nn.init.zeros_(router.weight)
    assert router(torch.ones(4, 2, dtype=torch.float64)).experts.tolist() == [[0, 1, 2]] * 4


def test_the_bias_chooses_and_does_not_weigh() -> None:
    router = Router(2, MoeConfig(experts=3, top_k=1, ffn=1, router="sigmoid", normalize=False, bias_rate=0.1)).double()
    torch.nn.init.zeros_(router.weight)
    assert router.bias is not None
    router.bias.copy_(torch.tensor([0.0, 0.0, 0.2]))
    choice = router(torch.ones(1, 2, dtype=torch.float64))
    assert choice.experts.tolist() == [[2]]
    assert choice.weights.tolist() == [[0.5]]


@pytest.mark.parametrize(("experts", "top_k"), [(6, 3), (7, 3), (4, 4), (5, 1)])
def test_even_choices_use_all_experts_equally_often_and_weigh_by_score(experts: int, top_k: int) -> None:
    router = Router(2, MoeConfig(experts=experts, top_k=top_k, ffn=1, router="sigmoid", normalize=False)).double()
    torch.nn.init.normal_(router.weight)
    router.is_even = True
    rows = torch.randn(2 * experts, 2, dtype=torch.float64)
    choice = router(rows)
    assert choice.counts.tolist() == [2 * top_k] * experts
    assert all(len(set(chosen)) == top_k for chosen in choice.experts.tolist())
    assert torch.equal(choice.weights, router.scores(rows).gather(1, choice.experts))


def test_the_bias_moves_towards_even_loads() -> None:
    moved = next_bias(torch.zeros(4), torch.tensor([0, 4, 2, 2]), 0.5)
    assert moved.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert next_bias(torch.ones(2), torch.tensor([0, 0]), 0.5).tolist() == [1.0, 1.0]


def test_router_and_dynamics_stay_wide_under_bfloat16() -> None:
    moe = mixture(HYBRID).bfloat16()
    moe.router.float()
    rows = torch.ones(3, HYBRID.section.hidden, dtype=torch.bfloat16)
    choice = moe.router(rows)
    assert choice.weights.dtype == choice.shares.dtype == torch.float32
    assert moe(rows, text_batch(HYBRID, (3,))).rows.dtype == torch.bfloat16


def test_a_frozen_router_balances_nothing() -> None:
    chain, batch = build(HYBRID), text_batch(HYBRID, (6, 3))
    for moe in (part for part in chain.modules() if isinstance(part, Moe)):
        moe.router.weight.requires_grad_(False)
    outputs = chain(None, batch)
    outputs[MAIN].backward()
    layers = [number for number, kind in enumerate(HYBRID.section.pattern) if kind == "E"]
    assert [outputs[f"layers.{number}.moe.{BALANCE}"].item() for number in layers] == [0.0, 0.0]
    counts = [outputs[f"layers.{number}.moe.{COUNTS}"].sum() for number in layers]
    assert counts == [9 * HYBRID.section.moe.top_k] * len(layers)
