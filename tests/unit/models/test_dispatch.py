"""Exchanges of experts' rows begin and end around halves of the shared expert, and on one rank change nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.models.multiply import Groups, grouped_product, grouped_weight_gradient
from counterpoint.parallelize.dispatch import Ends, EvenSizes, ExpertDispatch, Line, Sizes, ToldSizes, _sizes
from tests.unit.models.model_samples import GATED, HYBRID, build, text_batch

LENGTHS = (5, 1, 7)


class _Alone:
    """The line of a rank alone, which notes when exchanges begin and end."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def tell(self, leaving: Tensor) -> tuple[Tensor, Sizes]:
        self._events.append("tell")
        return leaving[:, 1:].sum(dim=0), ToldSizes(_sizes(leaving, leaving), None)

    def tell_choices(self, leaving: Tensor) -> Tensor:
        self._events.append("tell")
        return leaving.sum(dim=0)

    def mark(self, _rows: Tensor) -> None:
        return None

    def begin(
        self, pack: Callable[[], Tensor], _read: Sequence[Tensor], give: list[int], take: list[int], after: object
    ) -> Ends:
        assert give == take
        assert after is None
        self._events.append("begin")
        rows = pack()
        assert rows.shape[0] == sum(give)

        def end() -> Tensor:
            self._events.append("end")
            return rows.clone()

        return end


class _Noted(nn.Module):
    """A module that notes its forward and backward."""

    def __init__(self, inner: nn.Module, name: str, events: list[str]) -> None:
        super().__init__()
        self.inner, self.name, self.events = inner, name, events

    def forward(self, *inputs: Any) -> Tensor:
        self.events.append(self.name)
        out: Tensor = self.inner(*inputs)
        out.register_hook(lambda _gradient: self.events.append(f"{self.name} back"))
        return out


def mixture(model: Model) -> Moe:
    number = model.section.pattern.index("E") + 1
    layer = build(model, parts_of(model)[number : number + 1])
    return next(module for module in layer.modules() if isinstance(module, Moe))


def alone(moe: Moe, events: list[str]) -> Moe:
    """The mixture with the dispatch of a group of one rank."""
    moe.dispatch = ExpertDispatch(cast(Line, _Alone(events)), 1, 1, 0)
    return moe


def trained(moe: Moe, model: Model, padding: int, *, is_even: bool = False) -> dict[str, Tensor]:
    """Outputs and gradients of a sum with a different factor everywhere."""
    generator = torch.Generator().manual_seed(1)
    count = sum(LENGTHS) + padding
    rows = torch.rand(count, model.section.hidden, generator=generator, dtype=torch.float64, requires_grad=True)
    out = moe(rows, replace(text_batch(model, LENGTHS, padding), is_even=is_even)).rows
    (out * torch.arange(out.numel(), dtype=torch.float64).sin().view_as(out)).sum().backward()
    found = {name: p.grad for name, p in [*moe.named_parameters(), ("rows", rows)] if p.grad is not None}
    return found | {"out": out.detach()}


@pytest.mark.parametrize("is_even", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("model", [HYBRID, GATED], ids=["sigmoid", "softmax"])
def test_one_rank_exchanges_with_itself_and_changes_no_bit(model: Model, padding: int, is_even: bool) -> None:
    found = trained(alone(mixture(model), []), model, padding, is_even=is_even)
    plain = trained(mixture(model), model, padding)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_halves_of_the_shared_expert_lie_between_beginnings_and_ends() -> None:
    events: list[str] = []
    moe = alone(mixture(HYBRID), events)
    shared = cast(Any, moe.shared)
    for half in ("up", "down"):
        linear = getattr(shared, half)
        linear.multiply = _Noted(linear.multiply, half, events)
    moe.experts.multiply = _Noted(moe.experts.multiply, "experts", events)
    trained(moe, HYBRID, 0)
    # Choices and rows are two exchanges of one sending, which begins after the first half has been launched.
    forward = ["tell", "up", "begin", "begin", "end", "end", "experts", "experts", "begin", "down", "end"]
    # Gradients return while the other half's are computed.
    backward = ["begin", "down back", "end", "experts back", "experts back", "begin", "begin", "up back", "end", "end"]
    assert events == forward + backward


def test_lanes_with_the_same_rows_wait_for_no_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExpertDispatch, "address", lambda *_given: pytest.fail("sizes are known"))
    trained(alone(mixture(HYBRID), []), HYBRID, 3, is_even=True)


def test_rows_that_go_to_all_ranks_lie_by_rank_and_then_row() -> None:
    dispatch = ExpertDispatch(cast(Line, _Alone([])), 2, 2, 0)
    order = dispatch._to_all(3, torch.device("cpu"))
    rows_of_entries = (order.entries // 4).tolist()
    assert rows_of_entries == [0, 1, 2] * 4
    for row, places in enumerate(order.places.tolist()):
        assert [rows_of_entries[place] for place in places] == [row] * 4
        assert [place // 3 for place in places] == [0, 1, 2, 3], "one on each rank"


class _Poisoned(torch.autograd.Function):
    """A grouped product as a GPU computes it: rows after the last group are what memory held before, here NaN."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.groups = groups
        return _poisoned(grouped_product(rows, weights, groups), groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weights = ctx.saved_tensors
        of_rows = _poisoned(grouped_product(gradients[0], weights.transpose(1, 2), ctx.groups), ctx.groups)
        return of_rows, grouped_weight_gradient(gradients[0], rows, ctx.groups), None


def _poisoned(rows: Tensor, groups: Groups) -> Tensor:
    assert isinstance(groups, list)
    assert sum(groups) < rows.shape[0], "there are further rows"
    rows[sum(groups) :] = torch.nan
    return rows


class _GroupedMultiply(nn.Module):
    def forward(self, rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
        out: Tensor = _Poisoned.apply(rows, weights, groups)
        return out


@pytest.mark.parametrize("model", [HYBRID, GATED], ids=["sigmoid", "softmax"])
def test_rows_beyond_the_last_choice_reach_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU as many rows are computed as there may be choices."""
    plain = trained(mixture(model), model, 3)
    top_k = model.section.moe.top_k
    most = (sum(LENGTHS) + 3) * top_k
    monkeypatch.setattr(EvenSizes, "read", lambda self: ([self.rows], [self.rows], most))
    moe = alone(mixture(model), [])
    moe.experts.multiply = _GroupedMultiply()
    found = trained(moe, model, 3, is_even=True)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)
