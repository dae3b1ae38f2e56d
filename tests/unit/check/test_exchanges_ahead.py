"""Exchanges that run ahead are modelled with the rows of their own batch, beside a step and without one."""

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.check.blame import walk_of
from counterpoint.check.events import Exchange
from counterpoint.plan.action import Direction, Transfer
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.placement import Request, place
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import TrainedPart
from tests.asked import asked
from tests.unit.plan.strategies import KINDS, LANGUAGE, plan_of, random_packs

Sent = Counter[tuple[Transfer, int, int]]
"""Rows by transfer, sender and receiver."""


@st.composite
def chains(draw: st.DrawFn) -> Plan:
    """A frozen encoder of several stages, or one that feeds another, a step ahead of the language model."""
    is_fed = draw(st.booleans())
    vision = asked("vision", ranks=(0, 1, 2), pp=3) if not is_fed else _halves(draw, "vision", (0, 1))
    encoders = (vision, _halves(draw, "audio", (2, 3))) if is_fed else (vision,)
    placement = place(5, (*encoders, asked(LANGUAGE, ranks=(4,) if is_fed else (3, 4))))
    names = tuple(layout.module for layout in placement.layouts)
    group = draw(st.sampled_from((1, 1, 2)))
    rows = {
        layout.module: ModuleRows(
            layout,
            group=1 if layout.module == LANGUAGE else group,
            roots=frozenset({"vision"} if layout.module == "audio" else ()),
        )
        for layout in placement.layouts
    }
    edges = tuple(Edge(source, target) for source, target in itertools.pairwise(names))
    trained = {
        layout.module: (TrainedPart.whole(1, is_trained=layout.module == LANGUAGE),) * (2 * layout.stages)
        for layout in placement.layouts
    }
    plan = plan_of(placement, rows, draw(st.sampled_from(KINDS)), draw(st.integers(2, 4)))
    return replace(plan, graph=Graph.build(names, edges), group=group, trained=trained, run_ahead=1)


def _halves(draw: st.DrawFn, module: str, ranks: tuple[int, ...]) -> Request:
    return asked(module, ranks=ranks, **{draw(st.sampled_from(("pp", "dp_shard", "tp"))): 2})


def needed(plan: Plan, batch: BatchPlan) -> Sent:
    """What modules that run ahead hand each other of a batch, from its routes."""
    rows: Sent = Counter()
    for link in plan.stages.links:
        if not (plan.stages.steps_ahead(link.source) and plan.stages.steps_ahead(link.target)):
            continue
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            action = plan.stages.transfer(link, Direction.FORWARD, exchange)
            for copy in plan.route(batch, link, exchange).copies:
                if copy.source_rank != copy.target_rank:
                    rows[action, copy.source_rank, copy.target_rank] += copy.rows
    return rows


def modelled(plan: Plan, batch: BatchPlan | None, ahead: BatchPlan) -> tuple[Sent, Sent]:
    """What the events of a walk send and receive ahead."""
    sent: Sent = Counter()
    received: Sent = Counter()
    for rank, events in walk_of(plan, plan.schedule, batch, ahead).events.items():
        for event in events:
            if isinstance(event, Exchange) and event.action.ahead:
                sent.update({(event.action, rank, flow.peer): flow.rows or 0 for flow in event.sends})
                received.update({(event.action, flow.peer, rank): flow.rows or 0 for flow in event.receives})
    return sent, received


@settings(max_examples=25)
@given(chains(), st.integers(0, 999), st.integers(0, 999))
def test_what_runs_ahead_exchanges_its_own_rows(plan: Plan, seed: int, other: int) -> None:
    ahead, beside = plan.batch(1, random_packs(plan, seed)), plan.batch(0, random_packs(plan, other))
    expected = needed(plan, ahead)
    # On the way into a training modules run ahead of a step that there is none of.
    for batch in (None, beside):
        assert modelled(plan, batch, ahead) == (expected, expected)
