"""Blame: whichever rank stops, and wherever, it is the one that is named, on any layout and schedule."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counterpoint.check.blame import CONTROL, STORAGE, Position, Positions, Verdict, Walk, find_origin
from counterpoint.check.events import Collective, Event, Events, Exchange, Run, Wait, expand
from counterpoint.check.machine import Machine
from counterpoint.plan.action import Compute, Reduce, Step, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from tests.unit.check.test_machine import flow, transfers
from tests.unit.plan.strategies import plans, random_packs

TRAINING = ("training", 0, None)


def members_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """The communicators on which collectives are counted."""
    named = {c.name: c.ranks for c in plan.communicators if not c.is_transfer}
    return {**named, CONTROL: plan.placement.active, STORAGE: plan.placement.active}


def walk_of(plan: Plan, seed: int | None) -> Walk:
    """A step of a plan: of a random batch, or with every optional action."""
    batch = None if seed is None else plan.batch(0, random_packs(plan, seed))
    schedule = plan.schedule if batch is None else plan.of_step(plan.schedule, batch)
    programs = {rank: schedule.programs[rank] for rank in plan.placement.active}
    walk = Walk(programs, expand(plan, programs, batch))
    assume(all(walk.events.values()))
    return walk


def positions_at_rest(walk: Walk, played: Events, stopped: dict[int, Event]) -> dict[int, Position]:
    """Where all ranks stand when no one can go on; `stopped` are ranks that do by themselves, in front of an event.

    Who is through with the step has begun the collective of the next one's start.
    """
    machine = Machine(played)
    positions = {}
    for rank in walk.events:
        posted = [s.post for s in machine.states[rank].values() if s.posted is not None]
        calls = Counter(post.communicator for post in posted if isinstance(post, Collective))
        if rank in stopped:
            action = stopped[rank].action
        elif rank in machine.stuck:
            action = machine.stuck[rank][0]
        else:
            positions[rank] = Position("reading", 1, calls={**calls, CONTROL: 1, STORAGE: 0})
            continue
        index = walk.programs[rank].index(action)
        positions[rank] = Position(
            "training", 0, action=str(action), index=index, calls={**calls, CONTROL: 0, STORAGE: 0}
        )
    return positions


def frozen(walk: Walk, rank: int, place: int) -> dict[int, Position]:
    """Where all ranks stand after one stopped in front of one of its events."""
    events = walk.events[rank]
    return positions_at_rest(walk, {**walk.events, rank: events[:place]}, {rank: events[place]})


def blame(plan: Plan, walk: Walk, positions: Positions) -> Verdict:
    """The verdict on a step."""
    return find_origin(positions, members_of(plan), {TRAINING: walk})


@settings(max_examples=40)
@given(plans(max_world=6, max_microbatches=3), st.none() | st.integers(0, 999), st.data())
def test_a_rank_that_stops_is_named_wherever_it_does(plan: Plan, seed: int | None, data: st.DataObject) -> None:
    walk = walk_of(plan, seed)
    rank = data.draw(st.sampled_from(sorted(walk.events)))
    place = data.draw(st.integers(0, len(walk.events[rank]) - 1))
    positions = frozen(walk, rank, place)
    verdict = blame(plan, walk, positions)
    assert (verdict.origins, verdict.kind) == ((rank,), "working")
    # All others wait, and those who wait for it, through others as well, are all.
    assert verdict.waiting(rank) == tuple(sorted(walk.events.keys() - {rank}))
    assert all(verdict.waits[other] for other in verdict.waiting(rank))


@settings(max_examples=6)
@given(plans(max_world=5, max_microbatches=2), st.integers(0, 999))
def test_every_place_of_every_rank(plan: Plan, seed: int) -> None:
    walk = walk_of(plan, seed)
    for rank, events in walk.events.items():
        for place in range(0, len(events), max(1, len(events) // 12)):
            assert blame(plan, walk, frozen(walk, rank, place)).origins == (rank,)


@settings(max_examples=15)
@given(plans(max_world=6, max_microbatches=2), st.integers(0, 999), st.data())
def test_a_rank_that_does_not_answer_is_named_whatever_others_say(plan: Plan, seed: int, data: st.DataObject) -> None:
    walk = walk_of(plan, seed)
    rank = data.draw(st.sampled_from(sorted(walk.events)))
    positions: dict[int, Position | None] = {
        **frozen(walk, rank, data.draw(st.integers(0, len(walk.events[rank]) - 1)))
    }
    positions[rank] = None
    verdict = blame(plan, walk, positions)
    assert (verdict.origins, verdict.kind) == ((rank,), "absent")


@settings(max_examples=15)
@given(plans(max_world=6, max_microbatches=3), st.integers(0, 999), st.data())
def test_on_devices_the_action_is_enough(plan: Plan, seed: int, data: st.DataObject) -> None:
    """Hosts are ahead of their devices, so their calls say nothing; who is named beside the rank is in its action."""
    walk = walk_of(plan, seed)
    rank = data.draw(st.sampled_from(sorted(walk.events)))
    place = data.draw(st.integers(0, len(walk.events[rank]) - 1))
    positions = {}
    for one, position in frozen(walk, rank, place).items():
        # A device that has done everything has come to the last action.
        reached = len(walk.programs[one]) - 1 if position.index is None else position.index
        action = str(walk.programs[one][reached])
        positions[one] = Position("reading", 1, action=action, reached=reached, device=TRAINING, calls={CONTROL: 1})
    verdict = blame(plan, walk, positions)
    assert rank in verdict.origins
    assert {positions[other].action for other in verdict.origins} == {positions[rank].action}


@settings(max_examples=15)
@given(plans(max_world=6, max_microbatches=2), st.integers(0, 999), st.data())
def test_a_host_that_keeps_others_is_named_wherever_devices_are(plan: Plan, seed: int, data: st.DataObject) -> None:
    """One reads on while the others agree on the next batch; its device has work left, for which it does not wait."""
    walk = walk_of(plan, seed)
    assume(len(walk.events) > 1)
    rank, stuck = (data.draw(st.sampled_from(sorted(walk.events))) for _which in range(2))
    place = data.draw(st.integers(0, len(walk.events[stuck]) - 1))
    positions = {}
    for one, position in frozen(walk, stuck, place).items():
        reached = len(walk.programs[one]) - 1 if position.index is None else position.index
        calls = {CONTROL: 0 if one == rank else 1}
        positions[one] = Position("reading", 1, reached=reached, device=TRAINING, calls=calls)
    assert blame(plan, walk, positions).origins == (rank,)


@settings(max_examples=15)
@given(plans(max_world=6, max_microbatches=2), st.integers(0, 999), st.data())
def test_a_rank_that_skips_a_collective_is_named_though_it_waits_later(
    plan: Plan, seed: int, data: st.DataObject
) -> None:
    walk = walk_of(plan, seed)
    last = {(rank, e.communicator): place for rank, events in walk.events.items() for place, e in enumerate(events)
            if isinstance(e, Collective)}  # fmt: skip
    if not last:
        return
    rank, name = data.draw(st.sampled_from(sorted(last)))
    place = last[rank, name]
    events = walk.events[rank]
    assert isinstance(events[place + 1], Wait)
    played = {**walk.events, rank: (*events[:place], *events[place + 2 :])}
    positions = positions_at_rest(walk, played, {})
    at = positions[rank]
    verdict = blame(plan, walk, positions)
    skipped = walk.programs[rank].index(events[place].action)
    if at.index is None or at.index > skipped:
        assert (verdict.origins, verdict.kind) == ((rank,), "skipped")
    else:
        # It waits in the same action, for what others would do after the collective.
        assert rank in {rank, *verdict.origins}


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (Position("start-up"), "start-up"),
        (Position("training", 3, action="vision.0F1", index=2), "step 3: vision.0F1"),
        (Position("training", 3), "step 3: training"),
        (Position("evaluation", 4, 2, "held", "vision.0F0", 0), "step 4: evaluation held, batch 2: vision.0F0"),
        (Position("checkpoint", 9), "step 9: checkpoint"),
    ],
)
def test_a_position_in_words(position: Position, words: str) -> None:
    assert str(position) == words


def test_phases_are_told_apart_by_what_was_begun() -> None:
    """Rank 1 reads while others are in the collective that compares what was read; a checkpoint goes on beside it."""
    reading = Position("reading", 5, calls={CONTROL: 7, STORAGE: 1}, left=0.0)
    ahead = Position("reading", 5, calls={CONTROL: 8, STORAGE: 2}, left=-1.0)
    members = {CONTROL: (0, 1, 2), STORAGE: (0, 1, 2)}
    verdict = find_origin({0: ahead, 1: reading, 2: ahead}, members, {})
    assert (verdict.origins, verdict.waits) == (
        (1,), {0: {1: "a collective on control"}, 1: {}, 2: {1: "a collective on control"}},
    )  # fmt: skip
    saving = Position("checkpoint", 5, calls={CONTROL: 8, STORAGE: 3})
    verdict = find_origin({0: saving, 1: Position("checkpoint", 5, calls={CONTROL: 8, STORAGE: 2})}, members | {
        CONTROL: (0, 1), STORAGE: (0, 1)}, {})  # fmt: skip
    assert verdict.origins == (1,)


def test_in_a_tree_the_rank_is_named_where_the_waiting_begins() -> None:
    """Four ranks in pairs, whose first ranks are a pair: rank 3 reads, and the others wait for each other's words.

    Each waits in a group of its own: 0 for 2, who has not begun to speak for its pair, 1 for 0, and 2 for 3.
    """
    members = {"control.0[0-1]": (0, 1), "control.0[2-3]": (2, 3), "control.1[0-2]": (0, 2)}
    calls: dict[int, dict[str, int]] = {
        0: {"control.0[0-1]": 1, "control.1[0-2]": 1},
        1: {"control.0[0-1]": 2},
        2: {"control.0[2-3]": 1, "control.1[0-2]": 0},
        3: {"control.0[2-3]": 0},
    }
    here: dict[int, Position | None] = {rank: Position("reading", 5, calls=begun) for rank, begun in calls.items()}
    verdict = find_origin(here, members, {})
    assert (verdict.origins, verdict.kind, verdict.waiting(3)) == ((3,), "working", (0, 1, 2))
    assert verdict.waits[2] == {3: "a collective on control.0[2-3]"}
    gone = find_origin(here | {3: None}, members, {})
    assert (gone.origins, gone.kind, gone.waiting(3)) == ((3,), "absent", (0, 1, 2))
    on_device = Position("reading", 5, device=TRAINING, reached=0, calls=calls[2])
    behind = find_origin(here | {2: on_device}, members, {})
    assert behind.waits[2] == {3: "a collective on control.0[2-3]"}, "a host waits in a tree whatever its device does"
    assert not any(find_origin(_storing("reading", calls), _stored(members), {}).waits.values()), "it goes on beside"
    assert find_origin(_storing("checkpoint", calls), _stored(members), {}).origins == (3,)


def _stored(by_name: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the tree of checkpoints."""
    return {name.replace(CONTROL, STORAGE): value for name, value in by_name.items()}


def _storing(phase: str, calls: Mapping[int, Mapping[str, int]]) -> dict[int, Position]:
    return {rank: Position(phase, 5, calls=_stored(begun)) for rank, begun in calls.items()}


def test_what_stands_first_in_a_queue_is_what_is_waited_for() -> None:
    """Rank 0's part for rank 1 stands behind the one for rank 2, which is at work."""
    early, late, _more = transfers()
    work = Compute(Node("language", 0), Work.FORWARD, 0)
    programs = {0: (early, late, work), 1: (late, work), 2: (work, early)}
    posts = {
        0: (Exchange(early, "c", (), (flow(2),)), Exchange(late, "c", (), (flow(1),))),
        1: (Exchange(late, "c", (flow(0),), ()),),
        2: (Exchange(early, "c", (flow(0),), ()),),
    }
    events: Events = {
        0: (*posts[0], Wait(work, (posts[0][1].entry,)), Run(work)),
        1: (*posts[1], Wait(work, (posts[1][0].entry,)), Run(work)),
        2: (Run(work), *posts[2]),
    }
    positions = {
        rank: Position("training", 0, action=str(work), index=index) for rank, index in ((0, 2), (1, 1), (2, 0))
    }
    verdict = find_origin(positions, {}, {TRAINING: Walk(programs, events)})
    assert verdict.origins == (2,)
    assert verdict.waits == {0: {2: str(early)}, 1: {2: str(early)}, 2: {}}


@pytest.mark.parametrize("action", [Step(), Reduce(Node("language", 0))])
def test_who_left_out_what_comes_first_is_told_where_the_step_ends(action: Step | Reduce) -> None:
    """Ranks 0 and 1 sum over two, then over three; rank 1 is in the second sum already. Elsewhere both are named."""
    ranks = {"two": (0, 1), "three": (0, 1, 2)}
    posts = {name: (Collective(action, name, of), Wait(action, ((name, action, 0),))) for name, of in ranks.items()}
    events: Events = {0: (*posts["two"], *posts["three"]), 1: (*posts["two"], *posts["three"]), 2: posts["three"]}
    calls = {0: {"two": 1, "three": 0}, 1: {"two": 0, "three": 1}, 2: {"three": 1}}
    positions = {rank: Position("training", 0, action=str(action), index=0, calls=calls[rank]) for rank in events}
    verdict = find_origin(positions, ranks, {TRAINING: Walk(dict.fromkeys(events, (action,)), events)})
    expected = ((1,), "skipped") if action == Step() else ((0, 1), "apart")
    assert (verdict.origins, verdict.kind) == expected


@given(st.lists(st.none() | st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=7))
def test_a_rank_waits_for_all_members_that_have_begun_fewer_collectives(begun: list[tuple[int, int] | None]) -> None:
    members = {"world": tuple(range(len(begun))), "pair": (0, len(begun) - 1)}
    positions = {
        rank: None if counts is None else Position("reading", calls=dict(zip(members, counts, strict=True)))
        for rank, counts in enumerate(begun)
    }
    waits = find_origin(positions, members, {}).waits
    for rank, position in positions.items():
        if position is None or position.calls is None:
            assert rank not in waits
            continue
        behind = set()
        for name, count in position.calls.items():
            for other in members[name]:
                theirs = positions[other]
                if theirs is None or theirs.calls is None or theirs.calls[name] < count:
                    behind.add(other)
        assert waits[rank].keys() == behind
