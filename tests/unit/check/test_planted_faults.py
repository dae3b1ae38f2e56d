"""Each kind of planted fault is caught and located: rank and action stand in the message and the grid."""

from dataclasses import replace
from typing import Any

import pytest

from counterpoint.check.buffers import check_buffers
from counterpoint.check.coverage import check_layouts
from counterpoint.check.events import Collective, Event, Events, Exchange, Flow, expand
from counterpoint.check.fifo import check_fifos
from counterpoint.check.grid import HERE
from counterpoint.check.matching import check_matching
from counterpoint.check.proof import check_plan, check_programs
from counterpoint.check.routes import check_route
from counterpoint.errors import ProofError
from counterpoint.plan.action import parse_action
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.peers import MOST_OPERATIONS
from counterpoint.plan.placement import Placement, place
from counterpoint.plan.plan import Plan, Widths
from counterpoint.plan.samples import Document, Item
from tests.asked import asked
from tests.unit.check.faults import Programs, reordered, swapped, with_share, with_span, without
from tests.unit.plan.strategies import chain_plan, plan_of, small_plan, uniform_packs

EDGE = Link(Node("vision", 0), Node("language", 0))


@pytest.fixture
def plan() -> Plan:
    return small_plan()


@pytest.fixture
def batch(plan: Plan) -> BatchPlan:
    return plan.batch(0, uniform_packs(4))


def refused(plan: Plan, programs: Programs, batch: BatchPlan | None = None) -> str:
    with pytest.raises(ProofError) as caught:
        check_programs(plan, programs, batch)
    return str(caught.value)


def marked(message: str) -> list[tuple[str, str]]:
    """The (ranks, action) places at which a grid points."""
    lines = [line.split(" | ") for line in message.splitlines() if HERE in line]
    return [(ranks.strip(), line.split(f" {HERE}")[0].split()[-1]) for ranks, line in lines]


@pytest.mark.parametrize("with_batch", [False, True])
def test_a_dropped_send(plan: Plan, batch: BatchPlan, with_batch: bool) -> None:
    programs = without(plan.schedule.programs, 0, "vision.0>language.0F1")
    message = refused(plan, programs, batch if with_batch else None)
    assert "at vision.0>language.0F1 receives" in message
    assert "from rank 0, but rank 0 has no vision.0>language.0F1" in message
    assert ("rank 2", "vision.0>language.0F1") in marked(message)


def test_a_dropped_receive(plan: Plan) -> None:
    message = refused(plan, without(plan.schedule.programs, 3, "vision.0>language.0F0"))
    assert "rank 0 at vision.0>language.0F0 sends" in message
    assert "rank 3 has no vision.0>language.0F0" in message


def test_two_swapped_receives(plan: Plan, batch: BatchPlan) -> None:
    first, second = "vision.0>language.0F1", "vision.0>language.0F0"
    programs = reordered(plan.schedule.programs, 2, first, second)
    message = refused(plan, programs, batch)
    assert f"{second} of rank 2 is queued after {first}" in message
    assert f"{first} of rank 0 is queued after {second}" in message or f"{first} of rank 1" in message
    assert "in a circle" in message
    assert ("rank 2", second) in marked(message) or ("rank 2", first) in marked(message)


def test_swapped_transfers_of_a_pipeline() -> None:
    plan = chain_plan(3, 3, "gpipe")
    message = refused(plan, reordered(plan.schedule.programs, 1, "language.0>language.1F1"))
    assert "language.0>language.1F0 of rank 1 is queued after language.0>language.1F1" in message
    assert "rank 1" in dict(marked(message))


def test_a_receive_posted_ahead_blocks_a_later_send_on_its_communicator() -> None:
    """Design D2: rank 0 sends microbatch 3 after its first backward, which needs what rank 1 cannot send."""
    plan = chain_plan(3, 4, "1f1b")
    received = [f"language.0>language.1F{microbatch}" for microbatch in range(4)]
    message = refused(plan, reordered(plan.schedule.programs, 1, *received))
    assert "language.1>language.2F0 of rank 1 is queued after language.0>language.1F3" in message
    assert "rank 0 has not posted language.0>language.1F3: at language.0B0 it waits" in message
    assert dict(marked(message))["rank 0"] == "language.0B0"


def test_a_collective_in_another_order_on_one_rank() -> None:
    plan = small_plan(tp=1)
    events = expand(plan, plan.schedule.programs)
    stream = list(events[1])
    places = [i for i, e in enumerate(stream) if isinstance(e, Collective)]
    stream[places[0]], stream[places[1]] = stream[places[1]], stream[places[0]]
    fault = check_matching({**events, 1: tuple(stream)})
    assert fault is not None
    assert "rank 1 issues vision.0R at position 0 on collective[0-1], expected vision.0F0" in fault.sentence
    assert fault.marks[0] == (1, parse_action("vision.0R"))


def test_computes_in_another_order_on_one_rank(plan: Plan) -> None:
    program = plan.schedule.programs[3]
    names = [str(action) for action in program]
    one, other = names.index("language.0B0"), names.index("language.0B1")
    message = refused(plan, swapped(plan.schedule.programs, 3, one, other))
    assert "rank 3 issues language.0B1 at position 2 on collective[2-3], expected language.0B0" in message
    assert marked(message) == [("rank 3", "language.0B1")]


def test_a_missing_group_member(plan: Plan) -> None:
    message = refused(plan, without(plan.schedule.programs, 3, "language.0F1", "language.0B1"))
    assert "the collective language.0F1 on collective[2-3] is issued by rank 2" in message
    assert "not by member rank 3" in message
    assert marked(message) == [("rank 2", "language.0F1")]


def test_a_missing_member_stops_the_machine_too(plan: Plan) -> None:
    fault = check_fifos(expand(plan, without(plan.schedule.programs, 1, "S")))
    assert fault is not None
    assert "S of rank 0 waits for rank 1, which never posts it" in fault.sentence


def test_an_action_ahead_of_its_input(plan: Plan) -> None:
    message = refused(plan, reordered(plan.schedule.programs, 2, "language.0F0"))
    assert "rank 2 reaches language.0F0 with vision.0>language.0F0 later in its program" in message
    assert marked(message) == [("rank 2", "language.0F0")]


def test_a_transfer_ahead_of_what_makes_its_rows(plan: Plan) -> None:
    message = refused(plan, reordered(plan.schedule.programs, 0, "vision.0>language.0F0"))
    assert "rank 0 reaches vision.0>language.0F0 with vision.0F0 later" in message


def test_an_action_twice_and_one_on_a_foreign_rank(plan: Plan) -> None:
    programs = plan.schedule.programs
    twice = refused(plan, {**programs, 1: (programs[1][0], *programs[1])})
    assert "rank 1 has vision.0F0 twice" in twice
    foreign = refused(plan, {**programs, 1: (parse_action("language.0F0"), *programs[1])})
    assert "rank 1 has language.0F0, expected it on ranks [2, 3] only" in foreign
    assert marked(foreign) == [("rank 1", "language.0F0")]


def test_a_step_ahead_of_the_reduction(plan: Plan) -> None:
    message = refused(plan, reordered(plan.schedule.programs, 0, "S"))
    assert "rank 0 reaches S with vision.0R later in its program" in message
    assert marked(message) == [("rank 0", "S")]


def test_programs_without_a_step() -> None:
    plan = chain_plan(2, 1, "1f1b")
    programs = plan.schedule.programs
    for rank in programs:
        programs = without(programs, rank, "S")
    message = refused(plan, programs)
    assert "rank 0 ends with language.0R, expected the step action S last" in message
    assert marked(message) == [("rank 0", "language.0R")]


def test_a_transfer_that_nobody_waits_for() -> None:
    plan = chain_plan(2, 1, "1f1b")
    programs = without(plan.schedule.programs, 0, "S", "language.0>language.1F0")
    programs = without(programs, 1, "S", "language.1F0", "language.1B0")
    fault = check_fifos(expand(plan, programs))
    assert fault is not None
    assert "never completes and no rank waits for it" in fault.sentence
    assert fault.marks == ((1, parse_action("language.0>language.1F0")),)


@pytest.mark.parametrize("dropped", ["language.1F0", "language.0F1", "language.1B1"])
def test_a_dropped_compute_of_a_lone_rank(dropped: str) -> None:
    plan = chain_plan(2, 2, "1f1b")
    rank = int(dropped[len("language.")])
    message = refused(plan, without(plan.schedule.programs, rank, dropped))
    assert f"with {dropped} not at all in its program" in message
    assert marked(message)[0][0] == f"rank {rank}"


def test_a_dropped_forward_of_a_lone_lane() -> None:
    """Replicas gather nothing, so no collective misses it."""
    request = asked("language", ranks=(2, 3), dp_replicate=2)
    placement = place(4, (asked("vision", ranks=(0, 1)), request))
    plan = plan_of(placement, {layout.module: ModuleRows(layout) for layout in placement.layouts}, "forward", 2)
    programs = plan.evaluation.programs
    message = refused(plan, without(programs, 3, "language.0F1"))
    assert "rank 3 lacks language.0F1, which rank 2 has" in message
    assert marked(message) == [("rank 2", "language.0F1")]


def test_too_many_microbatches_in_flight() -> None:
    plan = small_plan("1f1b", microbatches=4)
    gpipe = replace(plan, kind="gpipe")
    message = refused(plan, gpipe.schedule.programs)
    assert "3 microbatches of vision.0 in flight, expected at most 2 under 1f1b" in message
    assert marked(message) == [("rank 0", "vision.0F2")]


def test_receives_posted_too_far_ahead() -> None:
    plan = small_plan("1f1b", microbatches=4)
    posted = [f"vision.0>language.0F{m}" for m in range(4)]
    programs = reordered(plan.schedule.programs, 3, *posted)
    fault = check_buffers(plan, programs, {})
    assert fault is not None
    assert "rank 3 at vision.0>language.0F2 has 3 receives of this link posted ahead" in fault.sentence


def edited(events: Events, rank: int, action: str, **changes: Any) -> Events:
    """Events in which an exchange has other flows."""

    def edit(event: Event) -> Event:
        return replace(event, **changes) if isinstance(event, Exchange) and str(event.action) == action else event

    return {**events, rank: tuple(edit(event) for event in events[rank])}


@pytest.mark.parametrize("flow", [Flow(0, 3, 32, "float32"), Flow(0, 4, 16, "float32"), Flow(0, 4, 32, "bfloat16")])
def test_a_receive_of_another_shape_or_dtype(plan: Plan, batch: BatchPlan, flow: Flow) -> None:
    events = expand(plan, plan.of_step(plan.schedule, batch).programs, batch)
    assert check_matching(events) is None
    fault = check_matching(edited(events, 2, "vision.0>language.0F0", receives=(flow,)))
    assert fault is not None
    assert f"the receive of rank 2 is {flow}" in fault.sentence
    assert "rank 0 at vision.0>language.0F0 sends 4 x 32 float32 to rank 2" in fault.sentence


def test_a_projector_that_ends_in_another_width(plan: Plan) -> None:
    wrong = replace(plan, widths={**plan.widths, "vision": Widths(8, 24)})
    with pytest.raises(ProofError, match=r"rank 0 at vision.0>language.0F0 sends any x 24 float32"):
        check_plan(wrong)


def test_too_many_operations_in_a_group(plan: Plan) -> None:
    sends = tuple(Flow(2, 1, 32, "float32") for _ in range(MOST_OPERATIONS + 1))
    events = edited(expand(plan, plan.schedule.programs), 0, "vision.0>language.0F0", sends=sends)
    fault = check_buffers(plan, plan.schedule.programs, events)
    assert fault is not None
    assert "rank 0 at vision.0>language.0F0 posts 256 sends" in fault.sentence


def test_an_item_computed_twice(plan: Plan, batch: BatchPlan) -> None:
    share = batch.shares["vision"][0][0]
    wrong = with_share(batch, "vision", 0, 1, share)
    message = refused(plan, plan.schedule.programs, wrong)
    assert "item 0 of document 0 is computed again after microbatch 0" in message
    assert marked(message) == [("rank 1", "vision.0F0")]


def test_an_item_that_no_lane_computes(plan: Plan, batch: BatchPlan) -> None:
    share = batch.shares["vision"][1][0]
    wrong = with_share(batch, "vision", 1, 0, replace(share, spans=()))
    assert "has no share in vision" in refused(plan, plan.schedule.programs, wrong)


def test_an_item_in_another_microbatch_than_its_document(plan: Plan, batch: BatchPlan) -> None:
    swap = with_share(batch, "vision", 0, 0, batch.shares["vision"][1][0])
    swap = with_share(swap, "vision", 1, 0, batch.shares["vision"][0][0])
    message = refused(plan, plan.schedule.programs, swap)
    assert "is apart from its document" in message
    assert marked(message)[0][0] == "rank 0"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows_out": 3}, "has 4 rows in and 3 out, expected 4 and 4"),
        ({"row_out": 1}, "ends at rows 4 and 5, expected at most 4 and 4"),
        ({"row_in": -1}, "starts at rows -1 and 0 inside the span before"),
    ],
)
def test_a_wrong_row_count_in_a_share(plan: Plan, batch: BatchPlan, changes: dict[str, int], sentence: str) -> None:
    message = refused(plan, plan.schedule.programs, with_span(batch, "vision", 1, 0, **changes))
    assert "vision, microbatch 1, lane 0 (rank 0 at vision.0F1)" in message
    assert sentence in message
    assert marked(message) == [("rank 0", "vision.0F1")]


def test_an_encoder_that_emits_unmerged_rows(plan: Plan) -> None:
    item = Item("vision", 2, 16, 4)
    batch = plan.batch(0, ((Document(0, 0, 12, 4, (item,)),),) * 2)
    message = refused(plan, plan.schedule.programs, batch)
    assert "item 0 of document 0 will emit 16 / 1 rows for 4 placeholders" in message


def test_placeholders_that_are_not_as_many_as_queries(plan: Plan) -> None:
    sampled = replace(plan, rows=plan.rows | {"vision": replace(plan.rows["vision"], queries=3)})
    item = Item("vision", 2, 16, 4)
    batch = sampled.batch(0, ((Document(0, 0, 12, 4, (item,)),),) * 2)
    message = refused(sampled, sampled.schedule.programs, batch)
    assert "item 0 of document 0 will emit 3 rows for 4 placeholders" in message


def test_more_loss_tokens_further_ahead(plan: Plan) -> None:
    batch = plan.batch(0, ((Document(0, 7, 12, 4, (), mtp_loss_tokens=(3, 5)),),))
    message = refused(plan, plan.schedule.programs, batch)
    assert "(source 0, index 7) has [4, 3, 5] loss tokens from one to 3 tokens ahead" in message


@pytest.mark.parametrize("position", [9, -1])
def test_placeholders_outside_their_document(plan: Plan, position: int) -> None:
    document = Document(0, 7, 12, 4, (Item("vision", position, 4, 4),))
    batch = plan.batch(0, ((document,),))
    assert "(source 0, index 7) has placeholders of vision" in refused(plan, plan.schedule.programs, batch)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": 3}, "is sent never"),
        ({"target_row": 3}, "brings item 0 of document 0 to lane 0 row 3, expected lane 0 row 2"),
        ({"target_rank": 3}, "brings item 0 of document 0 to lane 0 row 14"),
        ({"source_row": 4}, "takes rows that are padding or of two items"),
        ({"rows": 5}, "takes rows that are padding or of two items"),
    ],
)
def test_a_wrong_copy_in_a_route(plan: Plan, batch: BatchPlan, changes: dict[str, int], sentence: str) -> None:
    route = plan.route(batch, EDGE, 0)
    wrong = replace(route, copies=(replace(route.copies[0], **changes), *route.copies[1:]))
    fault = check_route(plan, batch, EDGE, 0, wrong)
    assert fault is not None
    assert sentence in fault.sentence
    assert f"rank {fault.marks[0][0]} at vision.0>language.0F0" in fault.sentence


def test_rows_routed_twice(plan: Plan, batch: BatchPlan) -> None:
    route = plan.route(batch, EDGE, 0)
    fault = check_route(plan, batch, EDGE, 0, replace(route, copies=(route.copies[0], *route.copies)))
    assert fault is not None
    assert "rank 0 at vision.0>language.0F0: row 0 of lane 0 (item 0 of document 0) is sent twice" in fault.sentence


def test_ranks_without_work_and_stages_without_parts(plan: Plan) -> None:
    lonely = replace(plan, placement=Placement(5, plan.placement.layouts))
    busy = replace(plan, placement=Placement(4, plan.placement.layouts, idle=(1,)))
    split = replace(plan, splits={**plan.splits, "vision": ((1, 2),)})
    for wrong, sentence in (
        (lonely, "rank 4 has no module"),
        (busy, "rank 1 has a module"),
        (split, "split"),
    ):
        fault = check_layouts(wrong)
        assert fault is not None
        assert sentence in fault.sentence
