"""The models of the example are what they say of themselves, and take batches without rows."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.extend import Ends
from counterpoint.extend.data import GivenBatch, Segments
from counterpoint.extend.models import Chain, build_chain
from counterpoint.kinds.named import named

SOURCES = Path(__file__).parents[3] / "examples" / "plugin" / "src"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What the example brings, whose modules are forgotten after the test."""
    monkeypatch.syspath_prepend(str(SOURCES))
    yield named("counterpoint_example:PLUGIN")
    for name in [name for name in sys.modules if name.startswith("counterpoint_example")]:
        del sys.modules[name]


def _section(example: Any) -> Any:
    # Loading would register the kinds for all tests; the projector is read by its own section here.
    projector = example.projectors["gated"].section(kind="gated", inner=6)
    tower = example.families["series_tower"].section
    return tower.model_construct(kind="series_tower", window=3, layers=2, hidden=8, heads=2, projector=projector)


def _chain(example: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Chain]:
    from counterpoint.projectors import PROJECTORS

    monkeypatch.setattr(PROJECTORS, "_kinds", dict(PROJECTORS.items()) | dict(example.projectors))
    family, section, ends = example.families["series_tower"], _section(example), Ends(leaving=4)
    with torch.device("meta"):
        chain = build_chain(named(family.parts)(section, ends))
    return family.facts(section, ends), chain


def test_parts_and_parameters_are_those_of_the_model(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, chain = _chain(example, monkeypatch)
    said = {
        (f"{part.name}.{name}" if name else part.name): shape for part in facts.parts for name, shape in part.tensors
    }
    assert said == {name: tuple(parameter.shape) for name, parameter in chain.named_parameters()}


@pytest.mark.parametrize("lengths", [(), (2, 1), (3,)])
def test_rows_of_items_see_their_own_mean(
    example: Any, monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...]
) -> None:
    """Each item alone is what it is beside others; without any, every parameter has a gradient of zero."""
    _facts, chain = _chain(example, monkeypatch)
    chain = chain.to_empty(device="cpu").double()
    generator = torch.Generator().manual_seed(0)
    for parameter in chain.parameters():
        parameter.data.normal_(generator=generator)
    values = torch.randn(sum(lengths), 3, dtype=torch.float64, generator=generator)
    together = chain(None, GivenBatch(values=values, segments=Segments.build(lengths, sum(lengths))))[""]
    alone = [
        chain(None, GivenBatch(values=one, segments=Segments.build((len(one),), len(one))))[""]
        for one in values.split(lengths)
    ]
    torch.testing.assert_close(together, torch.cat([values.new_zeros(0, 4), *alone]))
    together.sum().backward()
    assert all(parameter.grad is not None for parameter in chain.parameters())
    assert lengths or all(not parameter.grad.any() for parameter in chain.parameters() if parameter.grad is not None)
