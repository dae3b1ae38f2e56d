"""Exchanges of experts' rows begin and end around halves of the shared expert, and on one rank change nothing."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.parallelize.dispatch import Ends, ExpertDispatch, Line, _Sizes, _sizes
from tests.unit.models.model_samples import GATED, HYBRID, build, text_batch

LENGTHS = (5, 1, 7)


class _Alone:
    """The line of a rank alone, which notes when exchanges begin and end."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def tell(self, leaving: Tensor) -> tuple[Tensor, _Sizes]:
        self._events.append("tell")
        return leaving[:, 1:].sum(dim=0), _Sizes(_sizes(leaving, leaving), None)

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
    dispatch = ExpertDispatch(dist.ProcessGroup(HashStore(), 0, 1), 1, 1, 0)
    dispatch.line = cast(Line, _Alone(events))
    moe.dispatch = dispatch
    return moe


def trained(moe: Moe, model: Model, padding: int) -> dict[str, Tensor]:
    """Outputs and gradients of a sum with a different factor everywhere."""
    generator = torch.Generator().manual_seed(1)
    count = sum(LENGTHS) + padding
    rows = torch.rand(count, model.section.hidden, generator=generator, dtype=torch.float64, requires_grad=True)
    out = moe(rows, text_batch(model, LENGTHS, padding)).rows
    (out * torch.arange(out.numel(), dtype=torch.float64).sin().view_as(out)).sum().backward()
    found = {name: p.grad for name, p in [*moe.named_parameters(), ("rows", rows)] if p.grad is not None}
    return found | {"out": out.detach()}


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("model", [HYBRID, GATED], ids=["sigmoid", "softmax"])
def test_one_rank_exchanges_with_itself_and_changes_no_bit(model: Model, padding: int) -> None:
    found = trained(alone(mixture(model), []), model, padding)
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
