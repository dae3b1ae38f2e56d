"""Roles do what their ranks do: compared with the events, the verdict and the clock of every rank."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from counterpoint.check.buffers import check_buffers
from counterpoint.check.dataflow import check_dataflow, check_members
from counterpoint.check.events import Collective, Event, Events, Exchange, Post, Programs, Wait, expand, expand_template
from counterpoint.check.fifo import check_fifos
from counterpoint.check.machine import Machine, no_durations
from counterpoint.check.matching import check_matching
from counterpoint.check.proof import check_plan, check_programs
from counterpoint.check.quotient import expand_roles
from counterpoint.check.roles import RANKS, Ranks, Roles, coarse, stable
from counterpoint.errors import ProofError
from counterpoint.plan.action import Compute
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Node
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.simulate import play
from counterpoint.simulate.play import play_roles
from tests.asked import asked
from tests.unit.check.test_maximal_templates import interleaved
from tests.unit.plan.drawn import drawn_plan
from tests.unit.plan.strategies import plan_of, random_packs

SEEDS = st.integers(0, 2**32)
QUICKLY = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
AT_LENGTH = settings(max_examples=2000, suppress_health_check=[HealthCheck.too_slow])


def bounds_of(plan: Plan) -> dict[Node, int]:
    """As many microbatches as there are: a fault swaps what a schedule's own bounds forbid to swap."""
    return {node: plan.stages.count(node.module, plan.microbatches) for node in plan.stages.nodes}


def fault_of(plan: Plan, programs: Programs, events: Events, roles: Ranks) -> str | None:
    """The first fault that the checks of a proof find."""
    found = (
        check_matching(events, roles)
        or check_dataflow(plan, programs)
        or check_fifos(events, roles)
        or check_buffers(plan, programs, events, bounds_of(plan))
    )
    return None if found is None else found.sentence


def fault_of_ranks(plan: Plan, programs: Programs) -> str | None:
    """What the proof says that plays every rank."""
    found = check_members(plan, programs)
    return fault_of(plan, programs, expand_template(plan, programs), RANKS) if found is None else found.sentence


def fault_of_roles(plan: Plan, programs: Programs) -> str | None:
    """What the proof says that plays roles."""
    try:
        check_programs(plan, programs, bounds=bounds_of(plan))
    except ProofError as error:
        return str(error).splitlines()[-1]
    return None


def planted(plan: Plan, dice: random.Random) -> Programs:
    """The programs of a template, most with a fault on one rank, on some or on all of a role."""
    programs = dict(dice.choice((plan.schedule, plan.schedule, plan.evaluation)).programs)
    roles = list(stable(plan, coarse(plan, programs)).by_role.values())
    for _fault in range(dice.choice((0, 1, 1, 1, 2))):
        ranks = dice.choice(roles)
        ranks = dice.choice((ranks, ranks[:1], ranks[-1:], ranks[: 1 + len(ranks) // 2]))
        program = list(programs[ranks[0]])
        place = dice.randrange(len(program))
        near = min(len(program) - 1, place + dice.choice((1, 1, 2, 5, 20)))
        match dice.choice(("drop", "swap", "swap", "move", "foreign", "double", *["interleave"] * 6)):
            case "drop":
                program.pop(place)
            case "swap":
                program[place], program[near] = program[near], program[place]
            case "move":
                program.insert(near, program.pop(place))
            case "foreign":
                program.insert(place, dice.choice(programs[dice.choice(sorted(programs))]))
            case "double":
                program.insert(near, program[place])
            case "interleave":
                program = list(interleaved(plan, tuple(program), dice.choice((4, 16, 64)), dice))
        programs |= dict.fromkeys(ranks, tuple(program))
    return programs


@QUICKLY
@given(SEEDS)
def test_the_events_of_ranks_are_those_of_their_roles(seed: int) -> None:
    with drawn_plan(seed) as plan:
        compare_events(plan, plan.schedule.programs)


def compare_events(plan: Plan, programs: Programs) -> None:
    """Event by event: the fewest roles meet all roles that their ranks meet, stable ones no other and as many."""
    fewest = coarse(plan, programs)
    for is_template in (False, True):
        whole = (expand_template if is_template else expand)(plan, programs)
        for roles, is_stable in ((fewest, False), (stable(plan, fewest), True)):
            compared = _Compared(roles, is_stable, {}, {})
            events = expand_roles(plan, programs, roles, is_template=is_template)
            for rank, stream in whole.items():
                own = events[roles.role(rank)]
                assert len(stream) == len(own)
                for event, of_role in zip(stream, own, strict=True):
                    compared.compare(rank, event, of_role)


@dataclass
class _Compared:
    """What was seen: the pattern of each communicator, and for each rank the communicator of each pattern."""

    roles: Roles
    is_stable: bool
    patterns: dict[str, str]
    communicators: dict[tuple[int, str], str]

    def compare(self, rank: int, event: Event, of_role: Event) -> None:
        """An event of a rank and the same of its role."""
        assert type(event) is type(of_role)
        assert event.action == of_role.action
        match event, of_role:
            case Wait(entries=entries), Wait(entries=others):
                assert len(entries) == len(others)
                for (name, *entry), (pattern, *other) in zip(entries, others, strict=True):
                    assert entry == other
                    self._alike(rank, name, pattern)
            case (Exchange() | Collective()) as post, (Exchange() | Collective()) as other:
                assert post.entry[1:] == other.entry[1:]
                self._alike(rank, post.communicator, other.communicator)
                self._meets_the_same(post, other)

    def _alike(self, rank: int, name: str, pattern: str) -> None:
        assert self.patterns.setdefault(name, pattern) == pattern
        assert self.communicators.setdefault((rank, pattern), name) == name

    def _meets_the_same(self, post: Post, of_role: Post) -> None:
        if isinstance(post, Collective) and isinstance(of_role, Collective):
            met = {self.roles.role(member) for member in post.ranks}
            assert met == set(of_role.ranks) if self.is_stable else met <= set(of_role.ranks)
        if isinstance(post, Exchange) and isinstance(of_role, Exchange):
            for flows, others in ((post.sends, of_role.sends), (post.receives, of_role.receives)):
                counts = Counter(self.roles.role(flow.peer) for flow in flows)
                assert sum(counts.values()) == sum(flow.count for flow in others)
                assert {flow.carries for flow in flows} <= {flow.carries for flow in others}
                if self.is_stable:
                    assert counts == {flow.peer: flow.count for flow in others}
                assert counts.keys() <= {flow.peer for flow in others}


@QUICKLY
@given(SEEDS)
def test_roles_are_refused_as_their_ranks_are(seed: int) -> None:
    compare_verdicts(seed)


def compare_verdicts(seed: int) -> None:
    """Programs with planted faults: what is said of roles is what is said of ranks, to the letter."""
    dice = random.Random(seed)
    with drawn_plan(seed, dice.choice((8, 16, 32, 64))) as plan:
        programs = planted(plan, dice)
        expected = fault_of_ranks(plan, programs)
        found = fault_of_roles(plan, programs)
        assert found == expected
        if expected is None:
            compare_events(plan, programs)
            compare_numbers(plan, programs)


def compare_numbers(plan: Plan, programs: Programs) -> None:
    """What a proof says that it has proved."""
    proof, events = check_programs(plan, programs, bounds=bounds_of(plan)), expand_template(plan, programs)
    posts = [event for stream in events.values() for event in stream if isinstance(event, Exchange | Collective)]
    assert (proof.ranks, proof.actions) == (len(programs), sum(map(len, programs.values())))
    assert (proof.events, proof.posts) == (sum(map(len, events.values())), len(posts))
    assert proof.communicators == len({post.communicator for post in posts})


@QUICKLY
@given(SEEDS)
def test_the_proof_of_a_batch_is_that_of_its_step(seed: int) -> None:
    """Played by rank it says the same; where exchanges go in rounds, a batch may leave some of these out."""
    with drawn_plan(seed, 24) as plan:
        batch, ahead = (plan.batch(step, random_packs(plan, seed + step)) for step in (0, 1))
        programs = plan.of_step(plan.schedule, batch, ahead).programs
        played = check_programs(plan, programs, batch, ahead, plan.schedule.bounds)
        proof = check_plan(plan, batch, ahead)
        if all(rounds.count == 1 for rounds in plan.rounds.values()):
            assert proof == played
        assert (proof.actions, proof.in_flight, proof.rows) == (played.actions, played.in_flight, played.rows)


@QUICKLY
@given(SEEDS)
def test_what_roles_of_any_colouring_pass_their_ranks_pass(seed: int) -> None:
    prove_by_any_colouring(seed)


def prove_by_any_colouring(seed: int) -> None:
    """The fewest roles, split at random: whatever ranks are refused for, these are too."""
    dice = random.Random(seed)
    with drawn_plan(seed) as plan:
        programs = planted(plan, dice)
        if check_members(plan, programs) is not None:
            return
        colours, number = {}, dice.choice((1, 2, 3))
        for rank, role in ((rank, role) for role, ranks in coarse(plan, programs).by_role.items() for rank in ranks):
            colours[rank] = role * number + dice.randrange(number)
        roles = Roles(plan, colours)
        found = fault_of(plan, roles.programs(programs), expand_roles(plan, programs, roles), roles)
        if found is None:
            assert fault_of_ranks(plan, programs) is None


@QUICKLY
@given(SEEDS)
def test_the_clock_of_a_role_is_that_of_its_ranks(seed: int) -> None:
    compare_clocks(seed)


def compare_clocks(seed: int) -> None:
    """Costs of computes and durations of posts at random, alike in a stable role."""
    with drawn_plan(seed) as plan:
        programs = plan.schedule.programs
        roles = stable(plan, coarse(plan, programs))

        def cost(rank: int, action: Compute) -> float:
            return random.Random(f"{seed} {roles.role(rank)} {action}").random()

        def durations(rank: int, post: Post) -> float:
            return random.Random(f"{seed} {roles.role(rank)} {post.action} {post.entry[2]} {type(post)}").random()

        ranks = Machine(expand(plan, programs), cost, durations)
        played = Machine(expand_roles(plan, programs, roles, is_template=False), cost, durations)
        assert not ranks.stuck
        assert ranks.intervals == {rank: played.intervals[roles.role(rank)] for rank in programs}
        assert ranks.end == played.end


@QUICKLY
@given(SEEDS)
def test_a_role_sends_to_another_as_many_rows_as_its_fullest_rank_does(seed: int) -> None:
    with drawn_plan(seed, 24) as plan:
        batch, ahead = (plan.batch(step, random_packs(plan, seed + step)) for step in (0, 1))
        programs = plan.of_step(plan.schedule, batch, ahead).programs
        roles = coarse(plan, programs)
        most: Counter[object] = Counter()
        for rank, (key, rows) in exchanged(expand(plan, programs, batch, ahead), roles.role):
            where = roles.role(rank), *key
            most[where] = max(most[where], rows)
        events = expand_roles(plan, programs, roles, batch, ahead, is_template=False)
        assert {(role, *key): rows for role, (key, rows) in exchanged(events, int) if rows} == dict(most)


def exchanged(events: Events, role_of: Callable[[int], int]) -> Iterator[tuple[int, tuple[tuple[object, ...], int]]]:
    """The rows of each rank, or role, by action, round, whether it sends, and the role that it exchanges them with."""
    for rank, stream in events.items():
        rows: Counter[tuple[object, ...]] = Counter()
        for post in (event for event in stream if isinstance(event, Exchange)):
            for is_sender, flows in ((True, post.sends), (False, post.receives)):
                for flow in flows:
                    rows[post.action, post.round, is_sender, role_of(flow.peer)] += flow.rows or 0
        yield from ((rank, each) for each in rows.items())


@QUICKLY
@given(SEEDS)
@example(43)
@example(59)
@example(112)
def test_as_few_roles_as_give_the_time_of_every_rank(seed: int) -> None:
    compare_few_roles(seed)


def compare_few_roles(seed: int) -> None:
    """Exact where the player says so, else never early; it says so wherever lanes cost the same.

    The examples are plans of which some ranks are earlier than the fewest roles say.
    """
    dice = random.Random(seed)
    with drawn_plan(seed) as plan:
        programs, is_even = plan.schedule.programs, dice.random() < 0.5
        spread, most = dice.choice((1, 2, 100)), dice.choice((1, play.MOST_ROLES))

        def cost(rank: int, action: Compute) -> float:
            lane = 0 if is_even else plan.layouts[action.node.module].coordinate(rank).dp
            return float(random.Random(f"{seed} {lane} {action}").randrange(spread))

        with patch.object(play, "MOST_ROLES", most):
            played = play_roles(plan, programs, cost, no_durations)
        ranks = Machine(expand(plan, programs), cost)
        for rank, intervals in ranks.intervals.items():
            of_role = played.machine.intervals[played.roles.role(rank)]
            if played.is_exact:
                assert intervals == of_role
            assert all(own.end <= other.end for own, other in zip(intervals, of_role, strict=True))
        assert played.is_exact or most == 1 or not is_even


def test_ranks_that_do_the_same_are_few_roles() -> None:
    """Three lanes of language beside four ranks of vision: a role for each stage, and one for vision."""
    placement = place(
        16, (asked("vision", ranks=(0, 1, 2, 3)), asked("language", ranks=tuple(range(4, 16)), tp=2, pp=2))
    )
    rows = {layout.module: ModuleRows(layout) for layout in placement.layouts}
    plan = plan_of(placement, rows, "1f1b", 4)
    roles = coarse(plan, plan.schedule.programs)
    assert list(roles.by_role.values()) == [tuple(range(4)), tuple(range(4, 10)), tuple(range(10, 16))]
    assert stable(plan, roles).by_role == roles.by_role


@pytest.mark.more
@AT_LENGTH
@given(SEEDS)
def test_thousands_of_programs_are_refused_as_their_ranks_are(seed: int) -> None:
    compare_verdicts(seed)
    compare_clocks(seed)
    compare_few_roles(seed)
    prove_by_any_colouring(seed)
