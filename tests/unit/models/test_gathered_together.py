"""Which parts of a chain are one group of FSDP2: small layers in a row and what is tiny behind them, where they are
gathered once a step."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from counterpoint.config.training import PrecisionConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.experts import Experts
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.seams import StackedExperts, Wide
from counterpoint.parallelize import fsdp
from counterpoint.parallelize.fsdp import shard_data_parallel
from counterpoint.parallelize.whole import Rounded
from tests.unit.models.model_samples import GRAPHS, MODELS

CASES = MODELS | GRAPHS
MESH: Any = SimpleNamespace(size=lambda: 2)
"""Of a run that is never started."""
NARROW = PrecisionConfig(parameters="float32", compute="bfloat16", reduce="float32")


def meta(model: Model, start: int = 0) -> Chain:
    """A model or, from a later part on, a stage of it."""
    with torch.device("meta"):
        return build_chain(parts_of(model)[start:])


def size_of(unit: list[nn.Module]) -> int:
    """The parameters of a group."""
    return sum(parameter.numel() for part in unit for parameter in part.parameters())


@given(st.sampled_from(sorted(CASES)), st.integers(0, 2), st.integers(0, 2500))
def test_layers_in_a_row_share_a_group_until_it_is_large_enough_and_tiny_parts_join_them(
    name: str, start: int, least: int
) -> None:
    chain = meta(CASES[name], start)
    names = {part: name for name, part in chain.parts()}
    units = fsdp._units(chain, least)
    whole = [part for name, part in chain.parts() if name not in chain.shared and size_of([part])]
    assert [part for unit in units for part in unit] == whole
    for unit in units:
        for number, part in enumerate(unit[1:], start=1):
            before, is_layer = size_of(unit[:number]), names[part].startswith("layers.")
            assert names[unit[0]].startswith("layers.")
            assert size_of([part]) * fsdp._TINY <= before or (is_layer and before < least)
    for unit, following in pairwise(units):
        if least and names[unit[0]].startswith("layers."):
            first = following[0]
            assert size_of([first]) * fsdp._TINY > size_of(unit)
            assert size_of(unit) >= least or not names[first].startswith("layers.")


@pytest.mark.parametrize("ranks_of_experts", [1, 2])
@pytest.mark.parametrize(("reshard", "recomputes"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_only_what_stays_gathered_and_runs_in_turn_shares_a_group(
    model: Model, reshard: bool, recomputes: bool, ranks_of_experts: int
) -> None:
    """Groups that share are gathered, and held, as a whole, and wait for their first and last module; experts that a
    single rank holds have none as long as they stay."""
    chain = meta(model)
    calls: list[Any] = []
    mesh: Any = SimpleNamespace(size=lambda: ranks_of_experts)
    ignored_by: list[set[nn.Parameter]] = []

    def note(unit: Any, ignored_params: Any = None, **_more: Any) -> None:
        calls.append(unit)
        ignored_by.extend(() if ignored_params is None else (ignored_params,))

    with patch.object(fsdp, "fully_shard", note):
        shard_data_parallel(chain, MESH, mesh, NARROW, reshard=reshard, recomputes=recomputes)
    inner = [] if reshard or recomputes else [_inside(chain, Wide)]
    rows = [] if reshard else _rows(chain)
    assert [unit for unit in calls if isinstance(unit, list)] == [unit for unit in (*inner, *rows) if len(unit) > 1]
    assert calls[-1] is chain
    flat = [module for unit in calls for module in (unit if isinstance(unit, list) else [unit])]
    assert len(flat) == len(set(flat)), "each module is in one group"
    assert set(flat) >= {module for module in chain.modules() if isinstance(module, Wide)}
    experts = {module for module in chain.modules() if isinstance(module, StackedExperts)}
    apart = set() if reshard or ranks_of_experts > 1 else experts
    assert set(flat) & experts == experts - apart
    assert {module for module in experts if isinstance(module, Experts) and isinstance(module.stored, Rounded)} == apart
    weights = {weight for module in apart for weight in module.parameters()}
    assert all(ignored == weights for ignored in ignored_by)


def _inside(chain: Chain, kind: type[nn.Module]) -> list[nn.Module]:
    """The modules of a kind in layers."""
    layers = [part for name, part in chain.parts() if name.startswith("layers.")]
    return [module for layer in layers for module in layer.modules() if isinstance(module, kind)]


def _rows(chain: Chain) -> list[list[nn.Module]]:
    """Layers in a row, all of which are small here, and what is tiny right behind them."""
    rows: list[list[nn.Module]] = []
    is_row = False
    for name, part in chain.parts():
        if name in chain.shared or not size_of([part]):
            continue
        is_layer = name.startswith("layers.")
        if is_row and (is_layer or 64 * size_of([part]) <= size_of(rows[-1])):
            rows[-1].append(part)
        elif is_layer:
            rows.append([part])
            is_row = True
        else:
            is_row = False
    return rows


def test_one_rank_sums_where_its_gradients_were_copied() -> None:
    alone = fsdp._OfOneRank()
    asked = [alone.allocate((6,), dtype=torch.float32, device=torch.device("cpu")) for _time in range(4)]
    assert asked[0] is asked[1]
    assert asked[2] is asked[3]
    assert asked[1] is not asked[2]
