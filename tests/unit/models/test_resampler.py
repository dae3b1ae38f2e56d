"""A resampler is torch's own attention of its queries to the rows of each item, and an MLP."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from counterpoint.families import facts_of, intake_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.kinds.modality import Extent, Intake
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.rows import pack_items
from counterpoint.models.batch import GivenBatch, ItemBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.plan.samples import Item
from counterpoint.projectors.resampler.model import Resampler
from tests.intakes import image_intake
from tests.parity.brought import brought_model
from tests.unit.models.model_samples import CONFORMERS, GIVEN, VITS, WHISPERS, build, changed, sample, vit

QUERIES, HEADS, HIDDEN, FFN, LEAVING = 3, 2, 10, 7, 4
RESAMPLER: dict[str, Any] = {
    "kind": "resampler", "queries": QUERIES, "heads": HEADS, "hidden": HIDDEN, "ffn": FFN, "activation": "gelu"
}  # fmt: skip
SECTIONS: dict[str, dict[str, Any]] = {"with norms": RESAMPLER, "without": RESAMPLER | {"norm": "none", "bias": False}}
EACH = pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)


class Judge(nn.Module):
    """Queries that look at one item, of torch's own parts, with the weights of a resampler."""

    def __init__(self, ours: Resampler, inputs: int, *, has_norm: bool, bias: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs, eps=1e-6) if has_norm else nn.Identity()
        self.queries = nn.Parameter(torch.empty(QUERIES, HIDDEN))
        self.attention = nn.MultiheadAttention(HIDDEN, HEADS, bias=bias, kdim=inputs, vdim=inputs)
        self.mlp_norm = nn.LayerNorm(HIDDEN, eps=1e-6) if has_norm else nn.Identity()
        self.up, self.down = nn.Linear(HIDDEN, FFN, bias=bias), nn.Linear(FFN, LEAVING, bias=bias)
        self.double()
        for name, value in _theirs({name: p.detach() for name, p in ours.named_parameters()}):
            self.get_parameter(name).data.copy_(value)

    def forward(self, rows: Tensor) -> Tensor:
        keys = self.norm(rows)
        seen, _weights = self.attention(self.queries, keys, keys, need_weights=False)
        out: Tensor = self.down(nn.functional.gelu(self.up(self.mlp_norm(seen))))
        return out


def _theirs(ours: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of ours, such as parameters or their gradients, by the names of the judge's."""
    for name, tensor in ours.items():
        match name.split("."):
            case ["attention", "queries"]:
                yield "queries", tensor
            case ["attention", "o", leaf]:
                yield f"attention.out_proj.{leaf}", tensor
            case ["attention", piece, "weight"]:
                yield f"attention.{piece}_proj_weight", tensor
            case ["mlp", linear, leaf]:
                yield f"{linear}.{leaf}", tensor
            case [("norm" | "mlp_norm"), _leaf]:
                yield name, tensor
    if "attention.q.bias" in ours:
        yield "attention.in_proj_bias", torch.cat([ours[f"attention.{piece}.bias"] for piece in "qkv"])


def given(section: dict[str, Any]) -> Model:
    """Features of items that were computed beforehand, and the resampler of them."""
    return sample("features", width=6, leaving=LEAVING, projector=section)


def packed(intake: Intake, extents: Sequence[Extent]) -> tuple[ItemBatch, Tensor]:
    """Items of these sizes behind each other, and which of the rows that leave are theirs."""
    payloads = [rows_of(intake).noise(np.random.default_rng(i), extent) for i, extent in enumerate(extents)]
    items = [Item("m", 0, *intake.place(extent)[1:]) for extent in extents]
    return pack_items(intake, list(zip(items, payloads, strict=True)), torch.float64)


def intake(model: Model) -> Intake:
    found = intake_of("m", model.section, mark="")
    assert found is not None
    return found


def resampler_of(chain: Chain) -> Resampler:
    found = chain.get_submodule("projector")
    assert isinstance(found, Resampler)
    return found


@EACH
def test_rows_and_gradients_are_those_of_the_judge(section: dict[str, Any]) -> None:
    """Items of fewer rows than there are queries, and of more, each by itself."""
    lengths = (5, 1, 9, 2, 5)
    model = given(section)
    batch, kept = packed(intake(model), [(length, 6) for length in lengths])
    chain = build(model)
    ours = resampler_of(chain)
    judge = Judge(ours, 6, has_norm=section is RESAMPLER, bias=section is RESAMPLER)
    assert isinstance(batch, GivenBatch)
    rows, expected = batch.values.clone().requires_grad_(), batch.values.clone().requires_grad_()
    left = ours(rows, batch)[kept]
    wanted = torch.cat([judge(item) for item in expected.split(lengths)])
    assert left.shape == (len(lengths) * QUERIES, LEAVING)
    torch.testing.assert_close(left, wanted, rtol=1e-12, atol=1e-12)
    weights = (torch.arange(wanted.numel(), dtype=torch.float64) * 0.7).cos().view_as(wanted)
    (left * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(rows.grad, expected.grad, rtol=1e-11, atol=1e-12)
    gradients = dict(_theirs({name: _gradient(p) for name, p in ours.named_parameters()}))
    assert gradients.keys() == {name for name, _p in judge.named_parameters()}
    for name, parameter in judge.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-11, atol=1e-12, msg=name)


def test_behind_a_tower_queries_see_the_merged_patches_of_their_image() -> None:
    """And nothing of the learned rows in front of it."""
    keys: dict[str, Any] = {
        "layers": 1, "hidden": 8, "heads": 2, "ffn": 12, "patch": 2, "leaving": LEAVING, "prefix": 3, "merge": 2
    }  # fmt: skip
    model, plain = (vit(**keys, projector=projector) for projector in (RESAMPLER, {"kind": "linear"}))
    extents = [(4, 8), (8, 12), (4, 4)]
    batch, kept = packed(image_intake(model), extents)
    chain = build(model)
    left = chain(None, batch)[MAIN][kept]
    whole, own = packed(image_intake(plain), extents)
    rows = build(model, parts_of(model)[:-1])(None, whole)[MAIN]
    judge = Judge(resampler_of(chain), 32, has_norm=True, bias=True)
    items = rows.view(-1, 32)[own].split([image_intake(plain).place(extent).rows for extent in extents])
    torch.testing.assert_close(left, torch.cat([judge(item) for item in items]), rtol=1e-11, atol=1e-12)


ENCODERS = {**VITS, **WHISPERS, **CONFORMERS, **GIVEN, "ours": brought_model("test_vit")}


@pytest.mark.parametrize("plain", ENCODERS.values(), ids=ENCODERS)
def test_every_encoder_of_items_plans_and_places_as_many_rows(plain: Model) -> None:
    model = changed(plain, projector=RESAMPLER)
    assert intake(model).queries == facts_of(model).queries == QUERIES
    assert intake(plain).queries == facts_of(plain).queries == 0


@EACH
def test_without_items_every_parameter_has_a_gradient_of_zero(section: dict[str, Any]) -> None:
    batch, kept = packed(intake(given(section)), [])
    chain = build(given(section))
    left = chain(None, batch)[MAIN]
    assert left.shape == (0, LEAVING)
    assert len(kept) == 0
    left.sum().backward()
    assert all(not _gradient(parameter).any() for parameter in chain.parameters())


def test_its_facts_are_those_of_what_it_computes() -> None:
    """All products, but for those of the queries, which are of all items at once."""
    model = given(RESAMPLER)
    facts, chain = facts_of(model), build(model)
    assert [(name, tuple(p.shape)) for name, p in chain.get_submodule("projector").named_parameters()] == list(
        facts.parts[-1].tensors
    )
    counted = []
    for lengths in ([7], [7, 4]):
        batch, _kept = packed(intake(model), [(length, 6) for length in lengths])
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            chain(None, batch)
        of_linears = sum(n for name, n in counter.get_flop_counts()["Global"].items() if "mm" in str(name))
        of_pairs = 4 * HIDDEN * QUERIES * sum(lengths)
        counted.append(of_linears + of_pairs - 2 * QUERIES * HIDDEN**2)
    assert counted == [facts.forward_flops(7), facts.forward_flops(7) + facts.forward_flops(4)]
    assert facts.queries == QUERIES


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
