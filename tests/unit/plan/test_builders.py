"""Every builder over random graphs to 64 ranks: what its templates hold, in which order, and how much nodes keep."""

from collections import Counter
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.proof import check_plan
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import SCHEDULES, Schedule, distribute
from counterpoint.plan.stages import Stages, action_ranks
from counterpoint.plan.trainability import TrainedPart
from counterpoint.simulate.clock import simulate
from tests.asked import asked
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plan_of

TRAINING = ("gpipe", "1f1b", "interleaved", "zero_bubble", "filled")
WORLD = 64


@st.composite
def modules_of_nodes(draw: st.DrawFn, name: str) -> tuple[dict[Node, tuple[int, ...]], int]:
    """One module's nodes on ascending ranks of the world, and its chunks."""
    pp, size, chunks = (
        draw(st.integers(1, 4)),
        draw(st.sampled_from((1, 2, 3, 8, 16))),
        draw(st.sampled_from((1, 1, 2, 3))),
    )
    first = draw(st.integers(0, WORLD - pp * size))
    places = [tuple(range(first + place * size, first + (place + 1) * size)) for place in range(pp)]
    return {Node(name, stage): places[stage % pp] for stage in range(pp * chunks)}, chunks


@st.composite
def graphs(draw: st.DrawFn) -> Stages:
    """One to four modules of which only the last is left by no edge; what nothing trains may run ahead."""
    names = ("a", "b", "c", "d")[: draw(st.integers(1, 4))]
    drawn = {name: draw(modules_of_nodes(name)) for name in names}
    nodes = {name: tuple(of) for name, (of, _chunks) in drawn.items()}
    links = [Link(*pair) for name in names for pair in pairwise(nodes[name])]
    for number, source in enumerate(names[:-1]):
        for target in draw(st.lists(st.sampled_from(names[number + 1 :]), min_size=1, max_size=2, unique=True)):
            links.append(Link(nodes[source][-1], nodes[target][0]))
            if draw(st.booleans()):
                links.append(Link(draw(st.sampled_from(nodes[source])), draw(st.sampled_from(nodes[target])), 0, 0))
    group = draw(st.integers(1, 3))
    frozen = {name for name in names if draw(st.booleans())}
    every = [node for name in names for node in nodes[name]]
    trained = frozenset(node for node in every if node.module not in frozen and draw(st.integers(0, 3)))
    stages = Stages(
        nodes=tuple(every),
        links=tuple(links),
        ranks={node: ranks for of, _chunks in drawn.values() for node, ranks in of.items()},
        groups={name: draw(st.sampled_from((1, group))) for name in names[:-1]},
        chunks={name: chunks for name, (_of, chunks) in drawn.items()},
        trained=trained,
        encoder=draw(st.sampled_from(("just_in_time", "first", "fill"))),
        buffer=draw(st.sampled_from((None, 1, 2, 4))),
    )
    waiting = {names[-1], *(node.module for node in every if stages.has_backward(node))}
    steps = draw(st.sampled_from((0, 1, 2)))
    return replaced(stages, {name: steps for name in names if steps and name not in waiting})


def replaced(stages: Stages, ahead: dict[str, int]) -> Stages:
    """The same stages with modules that run ahead."""
    return Stages(
        stages.nodes, stages.links, stages.ranks, stages.groups, stages.chunks, stages.trained, ahead, stages.encoder,
        stages.buffer,
    )  # fmt: skip


def backward_works(stages: Stages, node: Node, splits: bool) -> tuple[Work, ...]:
    """What a node's backward is made of, in order."""
    if not stages.has_backward(node):
        return ()
    if not splits:
        return (Work.BACKWARD,)
    return (Work.INPUT, Work.WEIGHT) if stages.trains(node) else (Work.INPUT,)


def wanted_actions(stages: Stages, microbatches: int, splits: bool) -> list[Action]:
    """What a training template must hold, each action once."""
    wanted: list[Action] = [Step(), *(Reduce(node) for node in stages.nodes if stages.trains(node))]
    for node in stages.nodes:
        for m in range(stages.count(node.module, microbatches)):
            wanted.append(stages.forward(node, m))
            wanted += [Compute(node, work, m) for work in backward_works(stages, node, splits)]
    for link in stages.links:
        for exchange in range(stages.exchanges(link, microbatches)):
            wanted.append(stages.transfer(link, Direction.FORWARD, exchange))
            if stages.carries_gradient(link):
                wanted.append(Transfer(link, Direction.BACKWARD, exchange))
    return wanted


def most_kept(schedule: Schedule, stages: Stages, node: Node, microbatches: int) -> int:
    """The most microbatches that a node keeps at once, counted anew from the order of one of its ranks and readers."""
    forwards = Counter[Node]()
    gives_back = backward_works(stages, node, schedule.kind == "zero_bubble")[-1:]
    held, most = 0, 0
    for action in schedule.order:
        if not isinstance(action, Compute):
            continue
        forwards[action.node] += action.work is Work.FORWARD
        if gives_back:
            held += action.node == node and (action.work is Work.FORWARD) - (action.work is gives_back[0])
        elif action.node == node or any(link.source == node for link in stages.incoming(action.node)):
            held = forwards[node] - read_by_all(stages, node, microbatches, forwards)
        most = max(most, held)
    return most


def read_by_all(stages: Stages, node: Node, microbatches: int, forwards: Counter[Node]) -> int:
    """The microbatches of a node that the slowest of its readers has begun to read to the end."""
    read = [forwards[node]]
    for link in stages.outgoing(node):
        begun = stages.group(link.target.module) * forwards[link.target]
        is_over = forwards[link.target] == stages.count(link.target.module, microbatches)
        read.append(forwards[node] if is_over else begun // stages.group(node.module))
    return min(read)


@given(graphs(), st.integers(1, 9), st.sampled_from(TRAINING))
def test_a_template_holds_every_action_once_and_programs_follow_its_order(stages: Stages, m: int, kind: str) -> None:
    schedule = SCHEDULES[kind].build(stages, m)
    assert Counter(schedule.order) == Counter(wanted_actions(stages, m, kind == "zero_bubble"))
    for rank, program in schedule.programs.items():
        assert program == tuple(a for a in schedule.order if rank in action_ranks(a, stages))
        assert program[-1] == Step()


@given(graphs(), st.integers(1, 9), st.sampled_from(TRAINING))
def test_what_an_action_reads_stands_before_it_on_every_rank(stages: Stages, m: int, kind: str) -> None:
    for program in SCHEDULES[kind].build(stages, m).programs.values():
        seen = set[Action]()
        for action in program:
            if isinstance(action, Compute):
                assert seen.issuperset(stages.reads(action, m))
                if action.work is not Work.FORWARD:
                    assert stages.forward(action.node, action.microbatch) in seen
                if action.work is Work.WEIGHT:
                    assert Compute(action.node, Work.INPUT, action.microbatch) in seen
            seen.add(action)


@given(graphs(), st.integers(1, 9), st.sampled_from(TRAINING))
def test_transfers_stand_behind_what_makes_them_and_its_reduction_and_first_if_made_in_an_earlier_step(
    stages: Stages, m: int, kind: str
) -> None:
    order = SCHEDULES[kind].build(stages, m).order
    early = [link for link in stages.links if stages.steps_ahead(link.source) > stages.steps_ahead(link.target)]
    expected: list[Action] = [
        Transfer(link, Direction.FORWARD, exchange)
        for exchange, link in sorted((e, link) for link in early for e in range(stages.exchanges(link, m)))
    ]
    left = Counter(a.node for a in order if isinstance(a, Compute) and (a.work is not Work.FORWARD))
    for action in order:
        if isinstance(action, Compute):
            expected.append(action)
            left[action.node] -= action.work is not Work.FORWARD
            if action.work is not Work.FORWARD and not left[action.node] and stages.trains(action.node):
                # A reduction may begin in the backward, so what leaves the backward comes behind both.
                expected.append(Reduce(action.node))
            expected += [t for t in stages.gives(action, m) if t.ahead == action.ahead]
    assert order == (*expected, Step())


@given(graphs(), st.integers(1, 9), st.sampled_from(TRAINING))
def test_a_reduction_begins_in_the_last_backward_of_what_trains(stages: Stages, m: int, kind: str) -> None:
    schedule = SCHEDULES[kind].build(stages, m)
    trained = [] if kind == "zero_bubble" else [node for node in stages.nodes if stages.trains(node)]
    last = {a.node: a for a in schedule.order if isinstance(a, Compute) and a.work is Work.BACKWARD}
    assert schedule.reducing == {last[node] for node in trained}
    for node in trained:
        for rank in stages.ranks[node]:
            program = schedule.programs[rank]
            assert program[program.index(last[node]) + 1] == Reduce(node)


def test_no_reduction_begins_in_a_backward_behind_which_something_else_stands() -> None:
    """A schedule that is not ours may send before it reduces; then the backward leaves its sums alone."""
    vision, language = Node("vision", 0), Node("language", 0)
    link = Link(vision, language)
    stages = Stages((vision, language), (link,), {vision: (0,), language: (1,)})
    ours = SCHEDULES["1f1b"].build(stages, 1)
    send, reduce = Transfer(link, Direction.BACKWARD, 0), Reduce(language)
    behind, between = (reduce, send), (send, reduce)
    place = ours.order.index(reduce)
    assert ours.order[place : place + 2] == behind
    other = distribute("other", 1, (*ours.order[:place], *between, *ours.order[place + 2 :]), stages)
    assert {action.node for action in ours.reducing if isinstance(action, Compute)} == {vision, language}
    assert {action.node for action in other.reducing if isinstance(action, Compute)} == {vision}


@given(graphs(), st.integers(1, 9), st.sampled_from(TRAINING))
def test_nodes_keep_no_more_than_the_schedule_promises(stages: Stages, m: int, kind: str) -> None:
    schedule = SCHEDULES[kind].build(stages, m)
    for node in stages.nodes:
        assert schedule.bounds[node] <= stages.count(node.module, m)
        if not stages.steps_ahead(node):
            assert most_kept(schedule, stages, node, m) <= schedule.bounds[node]


@given(graphs(), st.integers(1, 9))
def test_evaluation_holds_every_forward_and_transfer_once(stages: Stages, m: int) -> None:
    order = SCHEDULES["forward"].build(stages, m).order
    computes = [Compute(n, Work.FORWARD, b) for n in stages.nodes for b in range(stages.count(n.module, m))]
    transfers = [Transfer(k, Direction.FORWARD, e) for k in stages.links for e in range(stages.exchanges(k, m))]
    assert Counter(order) == Counter([*computes, *transfers, Step()])
    seen = set[Action]()
    for action in order:
        if isinstance(action, Compute):
            assert seen.issuperset(stages.reads(action, m))
        seen.add(action)


@given(graphs(), st.integers(1, 9), st.sampled_from((*TRAINING, "forward")))
def test_builders_are_deterministic(stages: Stages, m: int, kind: str) -> None:
    assert SCHEDULES[kind].build(stages, m) == SCHEDULES[kind].build(replaced(stages, dict(stages.ahead)), m)


@pytest.mark.parametrize("places", [2, 3, 4, 8])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_chunks_and_split_backwards_make_the_bubble_smaller(places: int, rounds: int) -> None:
    plain = simulate(chain_plan(places, places * rounds, "1f1b")).bubble_fraction
    assert simulate(chain_plan(places, places * rounds, "interleaved", 2)).bubble_fraction < plain
    assert simulate(chain_plan(places, places * rounds, "zero_bubble")).bubble_fraction < plain


@pytest.mark.parametrize("places", [2, 3, 4, 6])
@pytest.mark.parametrize("beyond", [0, 1, 2, 5])
def test_split_backwards_help_for_any_number_of_microbatches(places: int, beyond: int) -> None:
    timelines = [simulate(chain_plan(places, places + beyond, kind)) for kind in ("1f1b", "zero_bubble")]
    assert timelines[1].makespan < timelines[0].makespan
    assert max(timelines[1].in_flight.values()) == max(timelines[0].in_flight.values())


def with_frozen(plan: Plan, modules: dict[str, int]) -> Plan:
    """A plan whose modules have so many first stages frozen."""
    parts = {module: 2 * plan.layouts[module].stages for module in modules}
    trained = {
        module: tuple(TrainedPart.whole(1, is_trained=part >= 2 * frozen) for part in range(parts[module]))
        for module, frozen in modules.items()
    }
    return replace(plan, trained=trained)


def most_on_a_seat(plan: Plan, seat: tuple[Node, ...], most: int = 0) -> int:
    """The most microbatches that await gradients or readers at once, summed over the chunks of a seat."""
    stages, splits, begun, ended = plan.stages, plan.kind == "zero_bubble", Counter[Node](), Counter[Node]()
    for action in plan.schedule.order:
        if isinstance(action, Compute):
            begun[action.node] += action.work is Work.FORWARD
            ended[action.node] += (action.work,) == backward_works(stages, action.node, splits)[-1:]
        done = {
            n: ended[n] if stages.has_backward(n) else read_by_all(stages, n, plan.microbatches, begun) for n in seat
        }
        most = max(most, sum(begun[node] - done[node] for node in seat))
    return most


@pytest.mark.parametrize(("places", "chunks", "microbatches"), [(2, 2, 8), (4, 2, 16), (4, 1, 8), (3, 3, 7)])
@pytest.mark.parametrize("kind", ["interleaved", "zero_bubble", "filled"])
def test_freezing_first_stages_makes_no_step_longer(places: int, chunks: int, microbatches: int, kind: str) -> None:
    plan = chain_plan(places, microbatches, kind, chunks)
    makespans = []
    for frozen in range(places * chunks):
        some = with_frozen(plan, {LANGUAGE: frozen})
        check_plan(some)
        makespans.append(simulate(some).makespan)
        assert kind != "filled" or makespans[-1] <= simulate(replace(some, kind="1f1b")).makespan
    assert makespans == sorted(makespans, reverse=True)


@pytest.mark.parametrize("kind", ["interleaved", "zero_bubble"])
def test_freezing_an_encoder_of_chunks_makes_no_step_longer(kind: str) -> None:
    placement = place(4, (asked("vision", ranks=(0, 1), pp=2, chunks=2), asked(LANGUAGE, ranks=(2, 3), pp=2)))
    plan = plan_of(placement, {layout.module: ModuleRows(layout) for layout in placement.layouts}, kind, 12)
    for encoder in ("just_in_time", "fill"):
        for buffer in (None, 3):
            bounded = replace(plan, encoder=encoder, buffer=buffer)
            makespans = []
            for frozen in range(5):
                some = with_frozen(bounded, {"vision": frozen})
                check_plan(some)
                makespans.append(simulate(some).makespan)
            assert makespans == sorted(makespans, reverse=True)


@pytest.mark.parametrize("frozen", range(8))
def test_with_frozen_stages_a_rank_keeps_no_more_than_the_fullest_of_an_interleaved_pipeline(frozen: int) -> None:
    for kind, fullest in (("interleaved", (11, 9, 7, 5)), ("zero_bubble", (11, 11, 11, 11))):
        plan = with_frozen(chain_plan(4, 16, kind, 2), {LANGUAGE: frozen})
        for stage, most in enumerate(fullest):
            assert most_on_a_seat(plan, (Node(LANGUAGE, stage), Node(LANGUAGE, stage + 4))) <= most
    plan = with_frozen(chain_plan(4, 16, "filled", 2), {LANGUAGE: frozen})
    for stage, most in enumerate((11, 9, 7, 5)):
        seat = Node(LANGUAGE, stage), Node(LANGUAGE, stage + 4)
        assert most_on_a_seat(plan, tuple(filter(plan.stages.has_backward, seat))) <= most
        assert all(most_on_a_seat(plan, (node,)) <= most for node in seat)


@pytest.mark.parametrize("encoder", ["first", "just_in_time", "fill"])
def test_a_buffer_bounds_what_an_encoder_keeps(encoder: str) -> None:
    vision, language = Node("vision", 0), [Node("language", stage) for stage in range(4)]
    stages = Stages(
        nodes=(vision, *language),
        links=(*(Link(*pair) for pair in pairwise(language)), Link(vision, language[0])),
        ranks={vision: (0, 1, 2, 3), **{node: (node.stage,) for node in language}},
        encoder=encoder,  # type: ignore[arg-type]
        buffer=None if encoder == "first" else 3,
    )
    schedule = SCHEDULES["1f1b"].build(stages, 8)
    assert most_kept(schedule, stages, vision, 8) == (8 if encoder == "first" else 3)


@pytest.mark.parametrize(
    ("encoder", "buffer", "kept"), [("just_in_time", None, 9), ("fill", 2, 4), ("first", None, 16)]
)
@pytest.mark.parametrize("kind", ["interleaved", "zero_bubble"])
def test_a_buffer_bounds_what_the_chunks_of_an_encoder_keep(kind: str, encoder: str, buffer: int, kept: int) -> None:
    vision, language = [Node("vision", stage) for stage in range(4)], [Node("language", stage) for stage in range(2)]
    stages = Stages(
        nodes=(*vision, *language),
        links=(
            *(Link(*pair) for nodes in (vision, language) for pair in pairwise(nodes)),
            Link(vision[3], language[0]),
        ),
        ranks={**{node: (node.stage % 2,) for node in vision}, **{node: (2 + node.stage,) for node in language}},
        chunks={"vision": 2},
        encoder=encoder,  # type: ignore[arg-type]
        buffer=buffer,
    )
    computes = [action for action in SCHEDULES[kind].build(stages, 8).programs[0] if isinstance(action, Compute)]
    ends = Work.WEIGHT if kind == "zero_bubble" else Work.BACKWARD
    changes = [{Work.FORWARD: 1, ends: -1}.get(action.work, 0) for action in computes]
    assert max(accumulate(changes)) == kept


def test_what_runs_ahead_gives_way_to_the_step_itself() -> None:
    vision, language = Node("vision", 0), Node("language", 0)
    ranks, trained = dict.fromkeys((vision, language), (0,)), frozenset({language})
    stages = Stages((vision, language), (Link(vision, language),), ranks, trained=trained, ahead={"vision": 2})
    assert [str(action) for action in SCHEDULES["1f1b"].build(stages, 2).order] == [
        "vision.0>language.0F0", "vision.0>language.0F1", "language.0F0", "language.0B0", "language.0F1",
        "language.0B1", "language.0R", "vision.0F0+2", "vision.0F1+2", "S",
    ]  # fmt: skip


def test_an_encoder_that_runs_first_ends_last() -> None:
    vision, language = Node("vision", 0), Node("language", 0)
    ranks = dict.fromkeys((vision, language), (0, 1))
    stages = Stages((vision, language), (Link(vision, language),), ranks, encoder="first")
    computes = [a for a in SCHEDULES["1f1b"].build(stages, 3).order if isinstance(a, Compute)]
    assert [str(a) for a in computes[:3]] == [f"vision.0F{m}" for m in range(3)]
    assert [str(a) for a in computes[-3:]] == [f"vision.0B{m}" for m in range(3)]


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("places", [2, 4])
def test_an_encoder_of_groups_keeps_as_many_as_let_nobody_wait(group: int, places: int) -> None:
    plan = replace(pair_plan(places, 8), group=group)
    rows = {**plan.rows, "vision": replace(plan.rows["vision"], group=group)}
    plan = replace(plan, rows=rows)
    assert simulate(plan).bubble_fraction == simulate(replace(plan, buffer=8)).bubble_fraction


def pair_plan(places: int, microbatches: int) -> Plan:
    """An encoder on one rank, and a language model of so many places on others."""
    requests = (asked("vision", pp=1, dp_shard=1), asked(LANGUAGE, pp=places))
    placement = place(1 + places, requests)
    rows = {layout.module: ModuleRows(layout) for layout in placement.layouts}
    return plan_of(placement, rows, "1f1b", microbatches)
