"""The interpreter: what runs in which order, what travels between stages, and how long it is kept."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.execute.stage import ROWS, Stage, StageBatch
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work, parse_action
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Edge, Graph, Node
from counterpoint.plan.plan import Plan
from tests.unit.execute.mailroom import Mailroom
from tests.unit.execute.rank import Rank, colocated, on_threads, summed
from tests.unit.execute.toys import Gradients, Rows, Toy, in_one_piece
from tests.unit.plan.strategies import chain_plan, plans, random_packs, uniform_packs

STEPS = 2
VISION, LANGUAGE = Node("vision", 0), Node("language", 0)


def assert_equal(plan: Plan, batch: BatchPlan, ours: tuple[float, Gradients]) -> None:
    """That ranks found what one process finds; a node whose rows reach no loss may have a gradient of zero."""
    (loss, found), (true_loss, expected) = ours, in_one_piece(plan, batch)
    assert abs(loss - true_loss) <= 1e-12 * (1 + abs(true_loss))
    assert expected.keys() <= found.keys()
    for node, gradient in found.items():
        torch.testing.assert_close(gradient, expected.get(node, torch.zeros_like(gradient)), rtol=1e-11, atol=1e-12)


@settings(max_examples=20)
@given(plans(max_world=6, max_microbatches=3), st.integers(0, 2**20))
def test_ranks_of_any_layout_find_the_gradients_of_one_process(plan: Plan, seed: int) -> None:
    batches = [plan.batch(step, random_packs(plan, seed + step)) for step in range(STEPS)]

    def part(number: int, room: Mailroom) -> tuple[list[tuple[float, Gradients]], float]:
        rank = Rank(plan, number, room)
        rank.train(batches)
        return rank.steps, rank.evaluate(batches[0])

    found = on_threads(plan, part)
    for step, batch in enumerate(batches):
        assert_equal(plan, batch, summed([steps[step] for steps, _loss in found]))
    loss, _gradients = in_one_piece(plan, batches[0])
    assert abs(sum(evaluated for _steps, evaluated in found) - loss) <= 1e-12 * (1 + abs(loss))


def alone(plan: Plan, batch: BatchPlan, *observers: Callable[[Action], None]) -> Rank:
    """The only rank of a plan, which has taken a batch."""
    rank = Rank(plan, 0, Mailroom(), *observers)
    rank.take(batch, plan.graph.modules)
    return rank


def test_actions_run_in_the_order_of_the_program_and_are_seen_before_they_run() -> None:
    plan = colocated(microbatches=2)
    batch = plan.batch(0, uniform_packs(2))
    rank, program = alone(plan, batch), plan.program(plan.schedule, 0, batch)
    rank.run(program, 0)
    expected: list[tuple[str, object]] = []
    for action in program:
        expected.append(("sees", action))
        match action:
            case Compute(work=Work.BACKWARD):
                expected.append(("begin", action))
            case Reduce(node=node):
                expected.append(("reduce", node))
            case Step():
                expected.append(("step", None))
    assert rank.log == expected
    assert {type(action) for action in program} == {Compute, Transfer, Reduce, Step}


def test_an_action_without_a_handler_ends_the_program_where_it_stands() -> None:
    @dataclass(frozen=True)
    class Rest:
        """Nobody has said what it does."""

    plan = colocated(microbatches=1)
    rank = alone(plan, plan.batch(0, uniform_packs(1)))
    program: Any = (Reduce(LANGUAGE), Rest(), Step())
    with pytest.raises(KeyError, match="Rest"):
        rank.run(program, 0)
    assert [what for what, _action in rank.log] == ["sees", "reduce", "sees"]


def test_a_reduction_begins_before_the_backward_that_adds_the_last_gradients() -> None:
    class Late(Rank):
        """Notes which weights have a gradient when a reduction may begin."""

        def _begin_reduction(self, action: Action) -> None:
            found.append([node for node, toy in self.toys.items() if toy.weight.grad is not None])

    found: list[list[Node]] = []
    plan = colocated(microbatches=1)
    Late(plan, 0, Mailroom()).train([plan.batch(0, uniform_packs(1))])
    assert found == [[], [LANGUAGE]]


def test_a_step_begins_when_no_transfer_is_open() -> None:
    class Slow:
        """Sends that are complete only when they are waited for."""

        def exchange(self, sends: object, receives: object) -> "Slow":
            log.append("posted")
            return self

        def is_completed(self) -> bool:
            return False

        def wait(self) -> None:
            log.append("awaited")

        def close(self) -> None:
            """See Channel."""

    class Room(Mailroom):
        def channels(self, plan: Plan, rank: int) -> dict[str, Any]:
            return dict.fromkeys(super().channels(plan, rank), Slow())

    class Stepping(Rank):
        def _step(self) -> None:
            log.append("step")

    log: list[str] = []
    plan = chain_plan(2, 1, "gpipe")
    rank = Stepping(plan, 0, Room())
    batch = plan.batch(0, uniform_packs(1))
    rank.take(batch, plan.graph.modules)
    rank.run((Compute(LANGUAGE, Work.FORWARD, 0), Transfer(plan.stages.links[0], Direction.FORWARD, 0), Step()), 0)
    assert log == ["posted", "awaited", "step"]


Kept = dict[tuple[str, int], weakref.ref[Tensor]]


class Given(Stage):
    """A stage that notes in `given`, without holding it, what it gave out: by kind of work and microbatch."""

    def __init__(self, node: Node, toy: Toy, given: Kept) -> None:
        super().__init__(node, toy, toy.is_loss, toy.is_loss)
        self._given = given

    def forward(self, microbatch: int, *arguments: Any) -> Mapping[str, Tensor]:
        found = super().forward(microbatch, *arguments)
        for rows in found.values():
            self._given["F", microbatch] = weakref.ref(rows)
        return found

    def backward(self, microbatch: int, *arguments: Any) -> tuple[Tensor, ...]:
        found = super().backward(microbatch, *arguments)
        for rows in found:
            self._given["B", microbatch] = weakref.ref(rows)
        return found


def test_rows_and_gradients_are_kept_until_they_are_posted_and_no_longer() -> None:
    """Two stages of one rank: what one gave out and what has not set off yet is all that is held."""

    def held(_action: Action | None) -> None:
        kept.append({key for key, rows in given.items() if rows() is not None})

    plan = chain_plan(1, 2, "1f1b", chunks=2)
    given: Kept = {}
    kept: list[set[tuple[str, int]]] = []
    batch = plan.batch(0, uniform_packs(2))
    rank = alone(plan, batch, held)
    for node, toy in rank.toys.items():
        rank.stages[node] = Given(node, toy, given)
    program = plan.program(plan.schedule, 0, batch)
    rank.run(program, 0)
    held(None)
    expected: set[tuple[str, int]] = set()
    gives = {("language.0", Work.FORWARD), ("language.1", Work.BACKWARD)}
    for action, before in zip(program, kept, strict=False):
        assert before == expected, action
        if isinstance(action, Compute) and (str(action.node), action.work) in gives:
            expected.add((action.work, action.microbatch))
        elif isinstance(action, Transfer):
            expected.remove((action.direction, action.exchange))
    assert len(given) == 4
    assert kept[-1] == set()


def test_what_no_transfer_of_the_program_takes_is_not_kept() -> None:
    def held(action: Action) -> None:
        kept.append([rows() is not None for rows in given.values()])

    plan = colocated(microbatches=1)
    given: Kept = {}
    kept: list[list[bool]] = []
    rank = alone(plan, plan.batch(0, uniform_packs(1)), held)
    rank.stages[VISION] = Given(VISION, rank.toys[VISION], given)
    rank.run((Compute(VISION, Work.FORWARD, 0), Step()), 0)
    assert kept == [[], [False]]


def test_a_forward_keeps_its_graph_only_where_a_backward_follows() -> None:
    plan = colocated(microbatches=3)
    rank = alone(plan, plan.batch(0, uniform_packs(3)))
    modes: list[bool] = []

    def module(_rows: Tensor | None, _batch: StageBatch) -> dict[str, Tensor]:
        modes.append(torch.is_grad_enabled())
        return {ROWS: torch.zeros((), requires_grad=True) + 1}

    rank.stages[LANGUAGE] = Stage(LANGUAGE, module, is_loss=True, counts_loss=True, weights=Left())
    actions = ("language.0F0", "language.0F1", "language.0F2", "language.0B0", "language.0I2", "language.0W2", "S")
    rank.run(tuple(parse_action(action) for action in actions), 0)
    assert modes == [True, False, True]


class Left:
    """Weight gradients of which none is ever left."""

    def collecting(self) -> Any:
        return torch.enable_grad()

    def take(self) -> "Left":
        return self

    def run(self) -> None:
        """See WeightWork."""


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_gradient_is_computed_only_for_rows_whose_source_wants_it(is_trained: bool) -> None:
    plan = colocated(microbatches=1, is_vision_trained=is_trained)
    rank = Rank(plan, 0, Mailroom())
    wanted: list[bool] = []
    toy = rank.toys[LANGUAGE]

    def module(rows: Tensor | None, batch: Rows) -> dict[str, Tensor]:
        wanted.extend(features.requires_grad for features, _index in batch.inserts)
        out: dict[str, Tensor] = toy(rows, batch)
        return out

    rank.stages[LANGUAGE] = Stage(LANGUAGE, module, is_loss=True, counts_loss=True)
    batch = plan.batch(0, uniform_packs(1))
    rank.train([batch])
    assert wanted == [is_trained]
    assert_equal(plan, batch, rank.steps[0])


def test_gradients_from_all_that_read_the_same_rows_are_added() -> None:
    plan = colocated(microbatches=3, group=2)
    batch = plan.batch(0, uniform_packs(3))
    rank = Rank(plan, 0, Mailroom())
    rank.train([batch])
    assert_equal(plan, batch, rank.steps[0])


@pytest.mark.parametrize("ahead", [1, 2])
def test_rows_made_ahead_wait_for_their_step_whatever_is_evaluated_meanwhile(ahead: int) -> None:
    plan = colocated(microbatches=1, is_vision_trained=False, run_ahead=ahead)
    batches = [plan.batch(step, random_packs(plan, step, max_packs=2) + uniform_packs(1)) for step in range(3)]
    rank = Rank(plan, 0, Mailroom())
    kept = []

    def between() -> None:
        kept.append(rank.interpreter.steps_ahead)
        rank.evaluate(batches[0])

    rank.train(batches, between)
    expected = [range(max(step + 1, 0), min(step + 1 + ahead, 3)) for step in range(-ahead, 3)]
    assert kept == [tuple(steps) for steps in expected]
    for batch, found in zip(batches, rank.steps, strict=True):
        assert_equal(plan, batch, found)


def test_weight_gradients_are_left_where_an_action_of_their_own_follows() -> None:
    def look(action: Action) -> None:
        seen.append((str(action), rank.toys[LANGUAGE].weight.grad is not None))

    plan = chain_plan(1, 2, "gpipe")
    batch = plan.batch(0, uniform_packs(2))
    seen: list[tuple[str, bool]] = []
    rank = alone(plan, batch, look)
    actions = ("language.0F0", "language.0I0", "language.0F1", "language.0W0", "language.0B1", "S")
    rank.run(tuple(parse_action(action) for action in actions), 0)
    assert seen == [(action, action in ("language.0B1", "S")) for action in actions]
    assert_equal(plan, batch, rank.steps[0])


@pytest.mark.parametrize("ahead", [0, 1])
def test_rows_of_a_depth_enter_behind_their_layer_and_give_their_gradient_to_their_port(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "stage_of", lambda *_arguments: 0)
    graph = Graph.build(("vision", "language"), (Edge("vision", "language", ((4, 0), (6, 2))),))
    plan = replace(colocated(microbatches=1, is_vision_trained=not ahead, run_ahead=ahead), graph=graph)
    rank = Rank(plan, 0, Mailroom())
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    outputs = {ROWS: 1.0, "d4": 10.0, "d6": 100.0}
    entered: dict[int, tuple[Tensor, Tensor]] = {}

    def tower(_rows: Tensor | None, _batch: StageBatch) -> dict[str, Tensor]:
        return {port: weight.expand(4, 32) * factor for port, factor in outputs.items()}

    def language(_rows: Tensor | None, batch: Rows) -> dict[str, Tensor]:
        (entered[-1],) = batch.inserts
        entered.update((into, insert) for into, (insert,) in batch.deep.items())
        terms = [(3.0 + into) * rows.sum() for into, (rows, _index) in entered.items()]
        return {ROWS: rank.toys[LANGUAGE].weight.sum() + torch.stack(terms).sum()}

    rank.stages[VISION] = Stage(VISION, tower, is_loss=False, counts_loss=False)
    rank.stages[LANGUAGE] = Stage(LANGUAGE, language, is_loss=True, counts_loss=True)
    rank.train([plan.batch(0, uniform_packs(1))])
    assert {into: rows[0, 0].item() for into, (rows, _index) in entered.items()} == {-1: 1.0, 0: 10.0, 2: 100.0}
    assert all(index.tolist() == [2, 3, 4, 5] for _rows, index in entered.values())
    gradient = 0.0 if weight.grad is None else weight.grad.item()
    assert gradient == (0 if ahead else 4 * 32 * (2 * 1 + 3 * 10 + 5 * 100))
