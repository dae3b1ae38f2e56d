"""What the plan believes of a model agrees with the model."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from counterpoint.families import FAMILIES, facts_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.batch import Batch
from counterpoint.models.chain import MAIN, build_chain
from counterpoint.models.seams import Mix
from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.plan.cost import ALL, CAUSAL, Mask
from counterpoint.verify.adamw import is_spared
from tests.parity.brought import MODELS as BROUGHT
from tests.parity.brought import brought_model
from tests.unit.models.model_samples import (
    CONFORMERS,
    CONVNEXTS,
    DECODERS,
    GIVEN,
    GRAPHS,
    MODELS,
    VITS,
    batch_of,
    build,
    changed,
    mlp,
)

LETTERS = {
    "A": {"kind": "attention", "heads": 2, "head_dim": 6, "window": 3},
    "W": {"kind": "mlp", "ffn": 20, "bias": True},
}
MORE: dict[str, Model] = {
    **MODELS,
    **GRAPHS,
    "convnext": CONVNEXTS["convnext"],
    "biased": changed(DECODERS["grouped"], bias=True),
    "plain": changed(DECODERS["tied"], tied=False, bias=False),
    "letters": changed(DECODERS["grouped"], pattern="*-AW", layers=LETTERS),
    "mlp": changed(VITS["merging"], projector=mlp(10, bias=False), merge=1),
}
EVERY = MORE | GIVEN | {name: brought_model(name) for name in BROUGHT}


def test_every_family_has_a_sample() -> None:
    assert {model.section.kind for model in EVERY.values()} == set(FAMILIES)


@pytest.mark.parametrize("model", EVERY.values(), ids=EVERY)
def test_parts_and_parameters_are_those_of_the_model(model: Model) -> None:
    """Names and shapes, part by part."""
    with torch.device("meta"):
        chain = build_chain(parts_of(model))
    built = [(name, {key: tuple(p.shape) for key, p in part.named_parameters()}) for name, part in chain.parts()]
    facts = facts_of(model)
    assert built == [(part.name, dict(part.tensors)) for part in facts.parts]
    assert all(len(dict(part.tensors)) == len(part.tensors) for part in facts.parts)
    assert facts.parameters == sum(p.numel() for p in chain.parameters())


OF_KNOWN_LAYERS = {name: model for name, model in EVERY.items() if model.section.kind != "custom"}


@pytest.mark.parametrize("model", OF_KNOWN_LAYERS.values(), ids=OF_KNOWN_LAYERS)
def test_cores_are_those_of_the_model(model: Model) -> None:
    """Heads and groups of every core that mixes rows, part by part; a projector's is counted by its FLOPs alone."""
    with torch.device("meta"):
        chain = build_chain(parts_of(model))
    for (name, part), facts in zip(chain.parts(), facts_of(model).parts, strict=True):
        if name == "projector" or name.startswith("taps."):
            continue
        # Convolutions mix rows, too, channel by channel.
        counts = [m.counts for m in part.modules() if isinstance(m, Mix) and "heads" in m.counts]
        assert [mixer.heads for mixer in facts.mixers] == [count["heads"] for count in counts]
        shared = [count.get("kv_heads", count.get("groups", count["heads"])) for count in counts]
        assert [mixer.groups for mixer in facts.mixers] == shared
        assert bool(facts.flops_per_pair) == any(not mixer.state for mixer in facts.mixers)


def test_experts_are_counted_apart() -> None:
    model = DECODERS["gated experts"]
    facts, one = facts_of(model), 3 * model.section.hidden * 6
    mixture = facts.parts[1]
    assert (mixture.expert_parameters, mixture.active_expert_parameters) == (4 * one, 3 * one)
    assert facts.active_parameters == facts.parameters - one


@pytest.mark.parametrize("model", EVERY.values(), ids=EVERY)
def test_widths_are_those_of_the_rows(model: Model) -> None:
    batch = batch_of(model, (4,))
    rows = None
    facts = facts_of(model)
    parts = parts_of(model)
    for part, fact in zip(parts, facts.parts, strict=True):
        read = [other for other in parts if other.name in part.reads and not other.makes_rows]
        rows = build(model, [*read, part])(rows, batch)[MAIN]
        if rows.ndim:
            assert rows.shape == (num_rows(batch) // fact.rows_per_output, fact.hidden_out)


CONVOLVING = {**CONFORMERS, "convnext": CONVNEXTS["convnext"]}


@pytest.mark.parametrize("model", CONVOLVING.values(), ids=CONVOLVING)
def test_flops_of_what_convolves_are_all_that_it_computes(model: Model) -> None:
    """Products, convolutions and attention; of one clip, whose distances are those that are projected."""
    chain, batch = build(model), batch_of(model, (8,))
    with FlopCounterMode(display=False) as counter:
        chain(None, batch)
    assert counter.get_total_flops() == facts_of(model).forward_flops(8)


ROW_BY_ROW = {name: model for name, model in (MORE | GIVEN).items() if name not in CONVOLVING}
"""Models all of whose products are of one row."""


@pytest.mark.parametrize("model", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_flops_of_the_linear_layers_are_those_of_the_model(model: Model) -> None:
    chain = build(model)
    batch = batch_of(model, (8,))
    # The loss makes gradients on the way where they are wanted.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        chain(None, batch)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(flops for operation, flops in counts.items() if "mm" in str(operation))
    counted = sum(part.flops_per_row for part in facts_of(model).parts) * num_rows(batch)
    assert linear == counted + _scan_difference(model)


def num_rows(batch: Batch) -> int:
    """Rows that a batch computes, learned ones and padding included."""
    return batch.segments.rows


def _scan_difference(model: Model) -> int:
    """Of 8 rows in two chunks: the sums of decays in a chunk are not counted; convolutions are no product."""
    section = model.section
    if section.kind != "decoder" or section.mamba is None:
        return 0
    further = "" if section.mtp is None else section.mtp.pattern * section.mtp.depths
    mamba = section.mamba
    assert mamba.chunk == 4
    summed = 2 * mamba.heads * 8 * mamba.chunk
    convolved = 2 * (mamba.inner + 2 * mamba.groups * mamba.state) * mamba.conv * 8
    return int((summed - convolved) * (section.pattern + further).count("M"))


ALONE = {*GIVEN, "test_conv", "convnext"}
"""Models whose rows see no others, or as many of any item."""


def test_cost_grows_with_rows_and_is_an_integer() -> None:
    for name, model in EVERY.items():
        facts = facts_of(model)
        costs = [facts.cost.of(rows) for rows in (0, 4, 16, 64)]
        assert costs[0] == 0 or facts.prefix
        assert costs == sorted(set(costs))
        assert all(type(cost) is int for cost in costs)
        assert costs[3] == 4 * costs[2] if name in ALONE else costs[3] > 4 * costs[2] - 4 * costs[0]


SUMS = {
    "grouped": 4, "hybrid": 4, "further": 4, "merging": 4, "windows": 6, "stacking": 4, "conformer": 8, "adapter": 4,
    "convnext": 3,
}  # fmt: skip
"""Sublayers that are added to the rows, as the papers draw them; those of further tokens are of other rows."""


@pytest.mark.parametrize("name", SUMS)
def test_residual_sums_are_those_of_the_paper(name: str) -> None:
    assert facts_of(MORE[name]).residual_sums == SUMS[name]


@pytest.mark.parametrize("model", MORE.values(), ids=MORE)
def test_verify_knows_which_parameters_are_vectors(model: Model) -> None:
    """By a list of names, while training asks for their dims."""
    with torch.device("meta"):
        chain = build_chain(parts_of(model))
    decayed = AdamWSection(lr=1.0, no_decay=())
    wrong = [name for name, p in chain.named_parameters() if is_spared(decayed, name, p.dim()) is not (p.dim() < 2)]
    assert wrong == []


def test_masks_are_those_of_the_layers() -> None:
    masks = {name: {mask for mask, _flops in facts_of(model).cost.per_pair} for name, model in MORE.items()}
    assert masks["merging"] == {ALL}
    assert masks["windows"] == {ALL, Mask(window=4)}
    assert masks["grouped"] == {CAUSAL}
    assert masks["letters"] == {CAUSAL, Mask(causal=True, window=3)}


def test_learned_rows_cost_what_others_cost() -> None:
    facts = facts_of(VITS["radio"])
    assert facts.prefix == 3
    assert facts.forward_flops(8) == replace(facts, prefix=0).forward_flops(11)
