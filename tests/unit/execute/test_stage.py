"""A stage: what its chain reads and gives, microbatch by microbatch, and what it keeps for backward."""

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from counterpoint.execute.stage import ROWS, Arrival, Stage
from counterpoint.plan.graph import Node
from tests.unit.execute.toys import Queue, Rows, noise

NODE = Node("language", 1)
EMPTY = Rows(torch.empty(0), torch.empty(0), torch.empty(0))


class Squares(nn.Module):
    """(rows weight^T)^2: the gradient of a microbatch is nobody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise("weight", shape=(3, 3)).clone())
        self.queue = Queue()

    def forward(self, rows: Tensor, _batch: Rows) -> dict[str, Tensor]:
        return {ROWS: self.queue.multiply(rows, self.weight).square()}


def entering(microbatch: int) -> Tensor:
    """Rows of a hop, more in each microbatch than in the one before."""
    return noise("rows", microbatch, shape=(microbatch + 1, 3)).clone()


def hop(rows: Tensor) -> tuple[Arrival, ...]:
    return (Arrival(rows, needs_gradient=True),)


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Forwards and backwards of four microbatches in any order, some in halves."""
    works = {m: iter(draw(st.sampled_from(("FB", "FIW")))) for m in range(4)}
    taken = draw(st.lists(st.sampled_from(sorted(works)), max_size=12))
    return [(m, work) for m in (*taken, *sorted(works) * 3) if (work := next(works[m], None)) is not None]


@settings(max_examples=25)
@given(orders())
def test_microbatches_may_be_in_flight_in_any_order(order: list[tuple[int, str]]) -> None:
    chain, plain = Squares(), Squares()
    stage = Stage(NODE, chain, is_loss=False, counts_loss=False, weights=chain.queue)
    found: dict[int, Tensor] = {}
    for microbatch, work in order:
        if work == "F":
            out = stage.forward(microbatch, EMPTY, hop(entering(microbatch)), keep=True)
            assert out[ROWS].equal(plain(entering(microbatch), EMPTY)[ROWS])
            assert stage.output_rows(microbatch, ROWS) == microbatch + 1
        elif work == "W":
            stage.weight_gradients(microbatch)
        else:
            gradients = {ROWS: noise("gradient", microbatch, shape=(microbatch + 1, 3))}
            (found[microbatch],) = stage.backward(microbatch, gradients, is_split=work == "I")
    stage.begin()
    for microbatch, gradient in found.items():
        rows = entering(microbatch).requires_grad_()
        plain(rows, EMPTY)[ROWS].backward(noise("gradient", microbatch, shape=(microbatch + 1, 3)))
        assert rows.grad is not None
        torch.testing.assert_close(gradient, rows.grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(chain.weight.grad, plain.weight.grad, rtol=1e-12, atol=1e-15)


def test_the_other_half_of_a_backward_is_all_that_touches_weights() -> None:
    chain = Squares()
    stage = Stage(NODE, chain, is_loss=False, counts_loss=False, weights=chain.queue)
    stage.forward(0, EMPTY, hop(entering(0)), keep=True)
    stage.backward(0, {ROWS: torch.ones(1, 3, dtype=torch.float64)}, is_split=True)
    after_input = chain.weight.grad
    assert after_input is None
    with pytest.raises(AssertionError, match="all weight gradients computed"):
        stage.begin()
    stage.weight_gradients(0)
    assert chain.weight.grad is not None
    stage.begin()


def loss_of(stage: Stage) -> float | None:
    """What it counted, which keeps no graph."""
    assert stage.loss is None or not stage.loss.requires_grad
    return None if stage.loss is None else stage.loss.item()


@pytest.mark.parametrize("counts", [True, False])
def test_losses_are_added_where_they_count_and_never_given_out(counts: bool) -> None:
    weight = torch.ones((), requires_grad=True)

    def chain(_rows: Tensor | None, batch: Any) -> Mapping[str, Tensor]:
        return {ROWS: weight * batch, "d0": weight * torch.ones(2)}

    stage = Stage(NODE, chain, is_loss=True, counts_loss=counts)
    for step in range(2):
        stage.begin()
        assert loss_of(stage) is None
        for microbatch, loss in enumerate((2.0, 3.0)):
            out = stage.forward(microbatch, loss + step, (), keep=True)
            assert out.keys() == {"d0"}
            assert not out["d0"].requires_grad
        for microbatch in range(2):
            assert stage.backward(microbatch, {"d0": torch.ones(2)}, is_split=False) == ()
        assert loss_of(stage) == (5.0 + 2 * step if counts else None)
    assert weight.grad is not None
    assert weight.grad.item() == 2 + 3 + 3 + 4 + 4 * 2


def test_what_no_backward_follows_leaves_nothing_behind() -> None:
    squares = Squares()
    modes = []

    def chain(rows: Tensor | None, batch: Rows) -> Mapping[str, Tensor]:
        modes.append(torch.is_grad_enabled())
        out: dict[str, Tensor] = squares(rows, batch)
        return out

    stage = Stage(NODE, chain, is_loss=False, counts_loss=False)
    rows = entering(0)
    out = stage.forward(0, EMPTY, hop(rows), keep=False)
    assert modes == [False]
    assert not rows.requires_grad
    assert out[ROWS].grad_fn is None
    with pytest.raises(KeyError):
        stage.output_rows(0, ROWS)
    stage.begin()


def test_an_unfinished_microbatch_is_no_way_to_begin() -> None:
    stage = Stage(NODE, Squares(), is_loss=False, counts_loss=False)
    stage.forward(3, EMPTY, hop(entering(0)), keep=True)
    with pytest.raises(AssertionError, match="nothing in flight"):
        stage.begin()


def test_what_arrived_is_let_go_after_its_backward() -> None:
    memory = np.ones((1, 3))
    held = weakref.ref(memory)
    stage = Stage(NODE, Squares(), is_loss=False, counts_loss=False)
    stage.forward(0, EMPTY, hop(torch.from_numpy(memory)), keep=True)
    del memory
    assert held() is not None
    gradients = stage.backward(0, {ROWS: torch.ones(1, 3, dtype=torch.float64)}, is_split=False)
    assert len(gradients) == 1
    assert held() is None


def test_gradients_enter_at_their_ports_and_only_where_something_is_trained() -> None:
    """What is frozen gives rows at a port of which a gradient may be sent although nobody needs it."""
    weight = torch.ones((), requires_grad=True)

    def chain(_rows: Tensor | None, _batch: Rows) -> Mapping[str, Tensor]:
        return {ROWS: 2 * weight * torch.ones(1), "d1": 3 * weight * torch.ones(2), "d2": torch.ones(3)}

    stage = Stage(NODE, chain, is_loss=False, counts_loss=False)
    ports = {ROWS: torch.tensor([1.0]), "d1": torch.tensor([10.0, 100.0]), "d2": torch.ones(3)}
    expected = 0.0
    for sent, adds in ((("d2", "d1", ROWS), 2 + 330), (("d1",), 330), (("d2",), 0), ((), 0)):
        stage.forward(0, EMPTY, (), keep=True)
        assert [stage.output_rows(0, port) for port in (ROWS, "d1", "d2")] == [1, 2, 3]
        stage.backward(0, {port: ports[port] for port in sent}, is_split=False)
        expected += adds
        assert (0.0 if weight.grad is None else weight.grad.item()) == expected


def test_features_reach_the_layer_that_they_are_for_and_rows_of_a_hop_the_chain() -> None:
    read: list[tuple[Tensor | None, Rows]] = []

    def chain(rows: Tensor | None, batch: Rows) -> Mapping[str, Tensor]:
        read.append((rows, batch))
        return {ROWS: torch.zeros(1)}

    stage = Stage(NODE, chain, is_loss=False, counts_loss=False)
    index = [torch.tensor([number]) for number in range(5)]
    rows, *features = (torch.full((1, 3), float(number)) for number in range(6))
    layers = (0, -1, 2, -1, 0)
    arrivals = [Arrival(features[n], needs_gradient=False, index=index[n], into=layers[n]) for n in range(5)]
    stage.forward(0, EMPTY, (*arrivals[:2], Arrival(rows, needs_gradient=False), *arrivals[2:]), keep=False)
    stage.forward(1, EMPTY, (), keep=False)
    (hopped, with_features), (nothing, untouched) = read
    assert hopped is rows
    assert nothing is None
    inserts = [(features[number], index[number]) for number in range(5)]
    assert with_features.inserts == (inserts[1], inserts[3])
    assert with_features.deep == {0: (inserts[0], inserts[4]), 2: (inserts[2],)}
    assert untouched is EMPTY


def test_gradients_of_what_arrived_are_given_to_who_wants_them_in_order() -> None:
    """Rows that nothing was made of have a gradient of zero."""

    def chain(rows: Tensor | None, batch: Rows) -> Mapping[str, Tensor]:
        assert rows is not None
        (first, _), (second, _) = batch.inserts
        return {ROWS: rows + 3 * first + 5 * second}

    stage = Stage(NODE, chain, is_loss=False, counts_loss=False)
    one = torch.ones(1, 2)
    arrivals = (
        Arrival(2 * one, True, torch.tensor([0])),
        Arrival(one.clone(), True),
        Arrival(4 * one, False, torch.tensor([0])),
        Arrival(6 * one, True, torch.tensor([0]), into=1),
    )
    stage.forward(0, EMPTY, arrivals, keep=True)
    gradients = stage.backward(0, {ROWS: one}, is_split=False)
    assert [gradient.tolist() for gradient in gradients] == [[[3.0, 3.0]], [[1.0, 1.0]], [[0.0, 0.0]]]
    assert not arrivals[2].rows.requires_grad
