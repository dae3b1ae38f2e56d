"""What a template's proof says holds of every batch: whatever a batch posts, the template posts in the same order."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from counterpoint.check.events import Collective, Event, Exchange, Post, Programs, expand, expand_template
from counterpoint.check.proof import check_plan, check_programs
from counterpoint.errors import ProofError
from counterpoint.plan.action import Action, Compute, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.erase import Erasure
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document, Item, Pack
from counterpoint.plan.schedule import SCHEDULES, Schedule, ScheduleKind
from counterpoint.plan.stages import Stages
from counterpoint.registry import Registry
from tests.asked import asked
from tests.unit.plan.strategies import KINDS, plan_of, plans, random_packs

MODULES = ("vision", "audio", "language")


def colocated(ranks: int = 2, kind: str = "gpipe", microbatches: int = 2) -> Plan:
    """Vision, audio and a language model on the same ranks, a lane each."""
    placement = place(ranks, tuple(asked(module, ranks=tuple(range(ranks))) for module in MODULES))
    rows = {layout.module: ModuleRows(layout) for layout in placement.layouts}
    return replace(plan_of(placement, rows, kind, microbatches), encoder="first")


def two_orders(stages: Stages, microbatches: int) -> Schedule:
    """GPipe, but rank 0 computes V0 V1 A0 A1 and rank 1 V0 A0 V1 A1."""
    schedule = SCHEDULES["gpipe"].build(stages, microbatches)
    forwards = {str(a): a for a in schedule.order if isinstance(a, Compute) and a.work is Work.FORWARD}
    orders = {
        0: ("vision.0F0", "vision.0F1", "audio.0F0", "audio.0F1"),
        1: ("vision.0F0", "audio.0F0", "vision.0F1", "audio.0F1"),
    }
    programs = {}
    for rank, names in orders.items():
        first = tuple(forwards[name] for name in names)
        programs[rank] = first + tuple(action for action in schedule.programs[rank] if action not in first)
    return replace(schedule, programs=programs)


def test_a_registered_schedule_that_hangs_without_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With images in both microbatches each module gathers at its first, in one order; without the first image rank 0
    gathers vision's parameters before audio's and rank 1 after."""
    known = Registry("schedule", dict(SCHEDULES.items()))
    known.register("two_orders", ScheduleKind(two_orders))
    monkeypatch.setattr("counterpoint.plan.plan.SCHEDULES", known)
    plan = replace(colocated(), kind="two_orders")
    clip, image = Item("audio", 0, 2, 2), Item("vision", 2, 2, 2)
    items = ((clip,), (clip,), (clip, image), (clip, image))
    documents = (Document(0, number, 8, 4, own) for number, own in enumerate(items))
    batch = plan.batch(0, tuple((document,) for document in documents))
    order = r"rank \d issues \w+.0F\d at position \d on collective\[0-1\], expected \w+.0F\d"
    with pytest.raises(ProofError, match=order):
        check_plan(plan, batch)
    with pytest.raises(ProofError, match=order):
        check_plan(plan)


@settings(max_examples=25)
@given(plans(), st.integers(0, 2**16))
def test_what_a_batch_posts_is_a_sub_order_of_what_its_template_posts(plan: Plan, seed: int) -> None:
    batch, ahead = (plan.batch(step, random_packs(plan, seed + step)) for step in (0, 1))
    for template, later in ((plan.schedule, ahead), (plan.evaluation, None)):
        most = expand_template(plan, template.programs)
        left = expand(plan, plan.of_step(template, batch, later).programs, batch, later)
        assert most.keys() == left.keys()
        for rank, stream in left.items():
            posts, template_posts = list(_posts(stream)), _posts(most[rank])
            for post in posts:
                # `in` goes on where the last one was found.
                assert any(_covers(other, post) for other in template_posts), f"rank {rank}: {post}"


def _posts(stream: tuple[Event, ...]) -> Iterator[Post]:
    return (event for event in stream if isinstance(event, Exchange | Collective))


def _covers(template: Post, post: Post) -> bool:
    """Whether a post is the template's with no more than its peers."""
    if (template.communicator, template.action) != (post.communicator, post.action):
        return False
    if isinstance(template, Exchange) and isinstance(post, Exchange):
        return all(
            {flow.peer for flow in flows} <= {flow.peer for flow in others}
            for flows, others in ((post.sends, template.sends), (post.receives, template.receives))
        )
    return isinstance(template, Collective) and isinstance(post, Collective) and template.ranks == post.ranks


COLOCATED = st.builds(colocated, st.integers(2, 3), st.sampled_from(KINDS), st.integers(2, 3))


@settings(max_examples=15, suppress_health_check=[HealthCheck.filter_too_much])
@given(COLOCATED, st.integers(0, 2**32))
def test_programs_whose_template_is_proved_are_proved_for_every_batch(plan: Plan, seed: int) -> None:
    prove_interleaved(plan, seed)


@pytest.mark.sweep
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(plans(max_world=8), st.integers(0, 2**32))
def test_thousands_of_interleaved_programs_are_proved_for_every_batch(plan: Plan, seed: int) -> None:
    prove_interleaved(plan, seed)


def prove_interleaved(plan: Plan, seed: int) -> None:
    """Interleave each rank's program at random; if the template is accepted, so must be what batches leave of it."""
    dice = random.Random(seed)
    bounds = {node: plan.stages.count(node.module, plan.microbatches) for node in plan.stages.nodes}
    is_alike, moves = dice.random() < 0.2, dice.choice((1, 2, 4, 8))
    programs = {
        rank: interleaved(plan, program, moves, random.Random(seed) if is_alike else dice)
        for rank, program in plan.schedule.programs.items()
    }
    try:
        check_programs(plan, programs, bounds=bounds)
    except ProofError:
        assume(False)
    for _ in range(4):
        batch, ahead = (plan.batch(step, scattered(plan, dice)) for step in (0, 1))
        keeps = Erasure(plan.stages, batch, ahead).keeps
        left: Programs = {rank: tuple(filter(keeps, program)) for rank, program in programs.items()}
        check_programs(plan, left, batch, ahead, bounds)


def scattered(plan: Plan, dice: random.Random) -> tuple[Pack, ...]:
    """A document for each cell, in which each module that takes items has one or none in a whole microbatch."""
    takers = [module for module in plan.graph.modules if module != plan.sink and not plan.graph.incoming(module)]
    packs: list[Pack] = []
    for _ in range(plan.microbatches):
        chosen = [module for module in takers if dice.random() < 0.5]
        rows = [plan.rows[module].queries or 1 for module in chosen]
        items = tuple(
            Item(module, sum(rows[:number]), plan.rows[module].merge, rows[number])
            for number, module in enumerate(chosen)
        )
        packs += [(Document(0, 0, 8 + sum(rows), 4, items),)] * plan.layouts[plan.sink].dp
    return tuple(packs)


def interleaved(plan: Plan, program: tuple[Action, ...], moves: int, dice: random.Random) -> tuple[Action, ...]:
    """A program of which some actions come earlier, though none before what it needs."""
    actions = list(program)
    for _ in range(moves):
        place = dice.randrange(len(actions))
        for earlier in range(place, max(place - dice.randrange(12), 0), -1):
            if _depends(plan, actions[earlier - 1], actions[earlier]):
                break
            actions[earlier - 1 : earlier + 1] = reversed(actions[earlier - 1 : earlier + 1])
    return tuple(actions)


def _depends(plan: Plan, before: Action, after: Action) -> bool:
    match before, after:
        case (_, Step()):
            return True
        case (Compute() | Reduce(), Compute() | Reduce()):
            return before.node == after.node
        case (Compute(), Transfer()):
            return after in plan.stages.gives(before, plan.microbatches)
        case (Transfer(), Compute()):
            return before in plan.stages.reads(after, plan.microbatches)
    return False
