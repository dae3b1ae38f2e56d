"""What the plan believes of a model agrees with the model."""

from dataclasses import replace

import pytest
import torch
from model_samples import CONFORMERS, DECODERS, GRAPHS, MODELS, VITS, batch_of, build
from torch.utils.flop_counter import FlopCounterMode

from counterpoint.models.batch import Batch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import MAIN, build_chain
from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.plan.model_facts import facts_of
from counterpoint.plan.sizes import ConformerSizes, DecoderSizes, ModelSizes, ProjectorSizes
from counterpoint.verify.adamw import is_spared

MORE: dict[str, ModelSizes] = {
    **MODELS,
    **GRAPHS,
    "biased": replace(DECODERS["grouped"], bias=True),
    "plain": replace(DECODERS["tied"], tied=False, bias=False),
    "mlp": replace(VITS["merging"], projector=ProjectorSizes(hidden=10, bias=False), merge=1),
}


@pytest.mark.parametrize("sizes", MORE.values(), ids=MORE)
def test_parts_and_parameters_are_those_of_the_model(sizes: ModelSizes) -> None:
    with torch.device("meta"):
        chain = build_chain(model_parts(sizes))
    built = [(name, {key: p.numel() for key, p in part.named_parameters()}) for name, part in chain.parts()]
    facts = facts_of(sizes)
    assert built == [(part.name, dict(part.tensors)) for part in facts.parts]
    assert all(len(dict(part.tensors)) == len(part.tensors) for part in facts.parts)
    assert facts.parameters == sum(p.numel() for p in chain.parameters())


def test_experts_are_counted_apart() -> None:
    sizes = DECODERS["gated experts"]
    mixture = facts_of(sizes).parts[1]
    one = 3 * sizes.hidden * 6
    assert (mixture.expert_parameters, mixture.active_expert_parameters) == (4 * one, 3 * one)
    assert facts_of(sizes).active_parameters == facts_of(sizes).parameters - one


@pytest.mark.parametrize("sizes", MORE.values(), ids=MORE)
def test_widths_are_those_of_the_rows(sizes: ModelSizes) -> None:
    batch = batch_of(sizes, (4,))
    rows = None
    facts = facts_of(sizes)
    parts = model_parts(sizes)
    for part, fact in zip(parts, facts.parts, strict=True):
        read = [other for other in parts if other.name in part.reads and not other.makes_rows]
        rows = build([*read, part])(rows, batch)[MAIN]
        if rows.ndim:
            assert rows.shape == (num_rows(batch) // fact.rows_per_output, fact.hidden_out)


@pytest.mark.parametrize("sizes", CONFORMERS.values(), ids=CONFORMERS)
def test_flops_of_a_conformer_are_all_that_it_computes(sizes: ConformerSizes) -> None:
    """Products, convolutions and attention; of one clip, whose distances are those that are projected."""
    chain, batch = build(model_parts(sizes)), batch_of(sizes, (8,))
    with FlopCounterMode(display=False) as counter:
        chain(None, batch)
    assert counter.get_total_flops() == facts_of(sizes).forward_flops(8)


ROW_BY_ROW = {name: sizes for name, sizes in MORE.items() if name not in CONFORMERS}
"""Models all of whose products are of one row."""


@pytest.mark.parametrize("sizes", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_flops_of_the_linear_layers_are_those_of_the_model(sizes: ModelSizes) -> None:
    chain = build(model_parts(sizes))
    batch = batch_of(sizes, (8,))
    # The loss makes gradients on the way where they are wanted.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        chain(None, batch)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(flops for operation, flops in counts.items() if "mm" in str(operation))
    assert linear == sum(part.flops_per_row for part in facts_of(sizes).parts) * num_rows(batch) + _scan_difference(
        sizes
    )


def num_rows(batch: Batch) -> int:
    """Rows that a batch computes, learned ones and padding included."""
    return batch.segments.rows


def _scan_difference(sizes: ModelSizes) -> int:
    """Of 8 rows in two chunks: the states that pass between chunks are not counted, nor the sums of decays in a chunk
    and over chunks; convolutions are no product."""
    if not isinstance(sizes, DecoderSizes) or sizes.mamba is None:
        return 0
    further = "" if sizes.mtp is None else sizes.mtp.pattern * sizes.mtp.depths
    mamba = sizes.mamba
    assert mamba.chunk == 4
    carried = 2 * 2 * 2 * mamba.inner * mamba.state
    summed = 2 * mamba.heads * (8 * mamba.chunk + 2 * 2 * 2)
    convolved = 2 * (mamba.inner + 2 * mamba.groups * mamba.state) * mamba.conv * 8
    return (carried + summed - convolved) * (sizes.pattern + further).count("M")


def test_cost_grows_with_rows_and_is_an_integer() -> None:
    for sizes in MORE.values():
        costs = [facts_of(sizes).cost.of(rows) for rows in (0, 4, 16, 64)]
        assert costs[0] == 0 or facts_of(sizes).prefix
        assert costs == sorted(set(costs))
        assert all(type(cost) is int for cost in costs)
        assert costs[3] > 4 * costs[2] - 4 * costs[0]


SUMS = {
    "grouped": 4, "hybrid": 4, "further": 4, "merging": 4, "windows": 6, "stacking": 4, "conformer": 8, "adapter": 4
}  # fmt: skip
"""Sublayers that are added to the rows, as the papers draw them; those of further tokens are of other rows."""


@pytest.mark.parametrize("name", SUMS)
def test_residual_sums_are_those_of_the_paper(name: str) -> None:
    assert facts_of(MORE[name]).residual_sums == SUMS[name]


@pytest.mark.parametrize("sizes", MORE.values(), ids=MORE)
def test_verify_knows_which_parameters_are_vectors(sizes: ModelSizes) -> None:
    """By a list of names, while training asks for their dims."""
    with torch.device("meta"):
        chain = build_chain(model_parts(sizes))
    decayed = AdamWSection(lr=1.0, no_decay=())
    wrong = [name for name, p in chain.named_parameters() if is_spared(decayed, name, p.dim()) is not (p.dim() < 2)]
    assert wrong == []


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_pairs_are_those_that_attention_sees(rows: int) -> None:
    seen = [(query, key) for query in range(rows) for key in range(rows)]
    assert facts_of(VITS["merging"]).pairs(rows) == len(seen)
    assert facts_of(DECODERS["grouped"]).pairs(rows) == sum(key <= query for query, key in seen)


def test_learned_rows_cost_what_others_cost() -> None:
    facts = facts_of(VITS["radio"])
    assert facts.prefix == 3
    assert facts.forward_flops(8) == replace(facts, prefix=0).forward_flops(11)
