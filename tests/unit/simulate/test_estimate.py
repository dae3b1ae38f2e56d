"""The clock of real costs: bounds of any estimate, known small ones, and optima over all orders of tiny plans."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint import costs
from counterpoint.check.events import Exchange
from counterpoint.check.machine import Interval
from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import KERNELS_INSTEAD, LAUNCHES_IF_COMPILED, NOT_MEASURED, Host
from counterpoint.errors import ProofError
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.graph import Node
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import distribute
from counterpoint.plan.work import model_flops
from counterpoint.search.candidate import Candidate, Choice, Degrees
from counterpoint.simulate.cast import Cast
from counterpoint.simulate.clock import simulate_programs
from counterpoint.simulate.estimate import _scale, estimate, play
from counterpoint.simulate.figures import mean_breakdown
from counterpoint.simulate.played import Breakdown, StepTimeline, draw
from counterpoint.simulate.prices import Execution, Prices
from counterpoint.simulate.sharding import sharded_groups
from tests.asked import asked
from tests.unit.check.faults import reordered
from tests.unit.plan.strategies import LANGUAGE, plan_of, random_packs, uniform_packs
from tests.unit.report.pages import example, sized_plans
from tests.unit.search.worlds import HYBRID, small

H200 = costs.load("H200")
UNTIMED = replace(H200, host=NOT_MEASURED)
"""The same, of whose host only the launch of a kernel is known."""

ON_CPU = replace(UNTIMED, device="cpu")


def test_a_step_takes_at_least_what_its_flops_take_at_the_peak() -> None:
    plan, batch = example("pair_1b")
    found = estimate(plan, H200, [batch])
    assert 0.05 < found.utilisation < 1.0
    flops = sum(model_flops(plan, batch).values())
    assert found.utilisation == pytest.approx(flops / found.seconds / 4 / H200.peak_flops("bfloat16"))
    assert found.tokens == sum(document.tokens for document in batch.documents)
    assert 0.0 <= found.exposed < found.exposed + found.bubble < 1.0


def test_an_estimate_is_the_mean_of_its_batches() -> None:
    plan, batch = example("hybrid_3b")
    smaller = plan.batch(1, tuple((document,) for document in batch.documents[:8]))
    both, one, other = (estimate(plan, H200, some) for some in ([batch, smaller], [batch], [smaller]))
    assert both.seconds == pytest.approx((one.seconds + other.seconds) / 2)
    assert one.seconds > other.seconds
    assert both.breakdown.seconds == pytest.approx(both.seconds)


@pytest.mark.parametrize("override", ["modules.language.recompute=full", "modules.language.layout.reshard=true"])
def test_what_saves_memory_costs_time(override: str) -> None:
    (plan, batch), (saving, same) = example("hybrid_3b"), example("hybrid_3b", override)
    found, saved = estimate(plan, H200, [batch]), estimate(saving, H200, [same])
    assert saved.seconds > found.seconds
    assert saved.memory_bytes < found.memory_bytes


def test_layers_that_are_not_compiled_take_longer() -> None:
    plans = [example("hybrid_3b", f"training.compile={word}") for word in ("true", "false")]
    compiled, plain = (play(plan, H200, batch, Execution()).seconds for plan, batch in plans)
    assert plain > compiled


def test_slow_hosts_bound_a_step() -> None:
    plan, batch = example("hybrid_3b")
    slow = replace(UNTIMED, launch_seconds=1.0)
    found = play(plan, slow, batch, Execution())
    # The steps that follow each other overlap in no more than what a queue holds.
    assert found.seconds == pytest.approx(found.launching, rel=0.2)
    assert found.seconds >= found.launching > 100.0
    assert max(found.late.values()) > 0.5 * found.seconds
    assert all(one.seconds == pytest.approx(found.seconds) for one in found.breakdowns.values())


def test_a_short_pass_behind_a_long_one_waits_for_its_host() -> None:
    """Of a tower whose kernels are short, also where a step takes much longer than its launches."""
    one = "schedule.microbatches=1"
    plan, batch = example(
        "pair_1b", *(f"modules.{name}.layout.ranks=[0,1,2,3]" for name in ("vision", "language")), one
    )
    found, free = (
        play(plan, replace(UNTIMED, launch_seconds=seconds), batch, Execution())
        for seconds in (H200.launch_seconds / 3, 1e-9)
    )
    assert found.launching < 0.8 * found.seconds
    assert free.seconds < found.seconds
    for rank in plan.placement.active:
        slow, quick = (
            {
                one.action.node.module: one.end - one.start
                for one in each.computes[rank]
                if one.action.work is Work.FORWARD
            }
            for each in (found, free)
        )
        assert slow["vision"] > 1.5 * quick["vision"]
        assert slow["language"] == pytest.approx(quick["language"], rel=1e-6)
        assert free.late[rank] == pytest.approx(0.0, abs=1e-5)


def test_a_host_that_was_measured_launches_as_fast_as_it_was() -> None:
    plan, batch = example("hybrid_3b", "training.compile=true")
    before = play(plan, UNTIMED, batch, Execution()).launching
    kernel = LAUNCHES_IF_COMPILED * H200.launch_seconds
    instead = {figure: count * kernel for figure, count in KERNELS_INSTEAD.values() if figure}
    as_before = Host(compiled_kernel=kernel, **instead)
    assert play(plan, replace(H200, host=as_before), batch, Execution()).launching == pytest.approx(before)
    for figure in {*instead} - {"recomputed", "exchange"}:
        slow = replace(H200, host=replace(as_before, **{figure: 1.0}))
        found = play(plan, slow, batch, Execution())
        assert found.seconds >= found.launching > 1.0


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_calls_of_layers_count_where_forward_runs(recompute: str) -> None:
    """Twelve layers with experts or a scan, and exchanges over tp: again in a backward that recomputes them."""
    plan, batch = example("hybrid_3b", f"modules.language.recompute={recompute}")
    rank = plan.layouts["language"].ranks[0]
    prices, again = prices_of(plan, batch, H200), recompute == "full"
    layers = [part for part in plan.facts["language"].parts if part.name.startswith("layers.")]
    mixtures, scans = (
        sum(map(bool, (part.mixtures for part in layers))),
        sum(any(mixer.state for mixer in part.mixers) for part in layers),
    )
    assert mixtures
    assert scans
    for action in (one for one in plan.schedule.programs[rank] if isinstance(one, Compute)):
        if action.node.module == "language":
            work = prices.price(rank, action).host_work
            runs = action.work is Work.FORWARD or again
            assert (work.mixtures, work.scans) == ((mixtures, scans) if runs else (0, 0))


def test_backward_needs_the_groups_that_gradients_reach_and_sums_those_that_are_trained() -> None:
    """Of a tower of 24 recomputed layers whose last is trained; its norm and its projector lead to it."""
    trained = 'modules.vision.train=["layers.23.*"]'
    plan, batch = example("pair_1b", trained, "modules.vision.layout.reshard=true", "modules.vision.recompute=full")
    (prices, node), last = (prices_of(plan, batch, H200), Node("vision", 0)), plan.schedule.reducing
    groups = sharded_groups(plan, node)
    (own,) = (group for group in groups if group.trained)
    for action in (one for one in plan.schedule.programs[0] if isinstance(one, Compute)):
        work, is_forward = prices.price(0, action).host_work, action.work is Work.FORWARD
        assert work.groups == work.gathers == (len(groups) if is_forward else len(groups) - groups.index(own))
        assert work.group_tensors == sum(group.tensors for group in groups[-work.groups :])
        assert (work.sums, work.summed_tensors) == ((1, own.tensors) if action in last else (0, 0))
        assert work.recomputed == (24 if is_forward else 1)


@pytest.mark.parametrize("how", ["none", "full", "full_but_attention", "offloaded"])
def test_kernels_are_forwards_where_forward_runs_and_else_backwards(how: str) -> None:
    changes = {
        "none": (), "full": ("modules.language.recompute=full",),
        "full_but_attention": ("modules.language.recompute=full", "modules.language.recompute_keeps=[attention]"),
        "offloaded": ("modules.language.offload=true",),
    }[how]  # fmt: skip
    (plain_plan, plain_batch), (plan, batch) = example("pair_1b"), example("pair_1b", *changes)
    rank = plan.layouts["language"].ranks[0]
    plain, prices = prices_of(plain_plan, plain_batch, H200), prices_of(plan, batch, H200)
    layers = sum(part.name.startswith("layers.") for part in plan.facts["language"].parts)
    again: set[int] = set()
    for action in (one for one in plan.schedule.programs[rank] if isinstance(one, Compute)):
        if action.node.module != "language":
            continue
        before, work = (each.price(rank, action).host_work for each in (plain, prices))
        copies = layers if how == "offloaded" else 0
        if action.work is Work.FORWARD:
            assert (work.kernels, work.backward_kernels) == (before.kernels + copies, 0)
            forward = before.kernels
        else:
            assert (before.kernels, work.backward_kernels) == (0, before.backward_kernels + copies)
            assert before.backward_kernels > forward
            again.add(work.kernels)
    (ran,) = again
    if how in ("none", "offloaded"):
        assert ran == 0
        return
    # All but embedding, norm and head; a kernel that attends and one beside it are not repeated where it is kept.
    cores = sum(bool(part.mixers) for part in plan.facts["language"].parts)
    kept = 2 * cores * (how == "full_but_attention")
    assert 0 < cores < layers
    assert 0.95 * forward < ran + kept < forward


@given(sized_plans(), st.integers(0, 2**16), st.sampled_from([1e-6, 1e-4, 1e-2]))
@settings(deadline=None, max_examples=20)
def test_no_step_is_shorter_than_its_launches(plan: Plan, seed: int, launch: float) -> None:
    found = play(plan, replace(H200, launch_seconds=launch), plan.batch(0, random_packs(plan, seed)), Execution())
    assert found.seconds >= found.launching


def test_gradients_of_two_dtypes_are_added_slowly_by_gpus() -> None:
    plan, batch = example("pair_1b")
    groups = sharded_groups(plan, Node("language", 0))
    gpu, cpu = (prices_of(plan, batch, one)._shards._adds(groups) for one in (H200, ON_CPU))
    assert gpu == pytest.approx(2.6 * cpu)
    plan, batch = example("pair_1b", "training.precision.reduce=bfloat16")
    assert prices_of(plan, batch, H200)._shards._adds(groups) == prices_of(plan, batch, ON_CPU)._shards._adds(groups)


def test_the_mean_is_over_all_ranks_that_a_breakdown_is_of() -> None:
    one, other = Breakdown({"a": 1.0}, 2.0, 3.0, 4.0), Breakdown({"b": 5.0}, 6.0, 7.0, 8.0)
    assert mean_breakdown([(one, 1), (other, 3)]) == Breakdown({"a": 0.25, "b": 3.75}, 5.0, 6.0, 7.0)


def test_on_a_cpu_the_host_is_part_of_each_compute() -> None:
    plan, batch = example("pair_1b", "training.compile=false")
    host = Host(
        plain_kernel=1e-3, group=2e-3, gather=3e-3, sum=4e-3, group_tensor=5e-3, gather_tensor=6e-3, sum_tensor=7e-3
    )
    free, slow = (prices_of(plan, batch, replace(ON_CPU, host=one)) for one in (Host(plain_kernel=1e-12), host))
    computes = [action for action in plan.schedule.programs[2] if isinstance(action, Compute)]
    for action in computes:
        work = slow.price(2, action).host_work
        kernels = work.kernels + work.backward_kernels
        assert kernels > 100
        assert work.groups > 0
        seconds = kernels * 1e-3 + work.groups * 2e-3 + work.gathers * 3e-3 + work.sums * 4e-3
        seconds += work.group_tensors * 5e-3 + work.gathered_tensors * 6e-3 + work.summed_tensors * 7e-3
        assert slow.price(2, action).host == pytest.approx(seconds)
    total = sum(slow.cost(2, action) - free.cost(2, action) for action in computes)
    assert total == pytest.approx(sum(slow.price(2, action).host for action in computes), rel=0.01)
    first = slow.price(2, computes[0]).host_work
    assert first.group_tensors > first.groups
    for gathered, summed, held in (
        ("gathers", "sums", "groups"),
        ("gathered_tensors", "summed_tensors", "group_tensors"),
    ):
        counts = (sum(getattr(slow.price(2, one).host_work, kind) for one in computes) for kind in (gathered, summed))
        assert {*counts} == {getattr(first, held)}


def test_a_host_sums_where_backwards_are_split_and_recomputes_nothing_for_weights() -> None:
    plan, batch = example("pair_1b", "schedule.kind=zero_bubble", "modules.language.recompute=full")
    prices = prices_of(plan, batch, H200)
    computes = [action for action in plan.schedule.programs[2] if isinstance(action, Compute)]
    again = {action.work: prices.price(2, action).host_work.recomputed for action in computes}
    assert again[Work.WEIGHT] == 0 < again[Work.INPUT] == again[Work.FORWARD]
    slow = prices_of(plan, batch, replace(H200, host=Host(sum=1.0)))
    assert slow.launching(2) - prices.launching(2) > 0.9


def prices_of(plan: Plan, batch: BatchPlan, hardware: Hardware) -> Prices:
    programs = plan.of_step(plan.schedule, batch, batch).programs
    return Prices(plan, hardware, batch, Cast(plan, programs, batch), Execution())


def test_a_step_begins_with_the_update_of_the_one_before() -> None:
    plan, batch = example("pair_1b")
    table = H200.updates
    assert table is not None, "measured"
    slower = replace(H200, updates=replace(table, seconds=tuple(s and s + 1.0 for s in table.seconds)))
    before, after = (play(plan, one, batch, Execution()) for one in (H200, slower))
    assert min(after.updated.values()) > 1.0
    assert after.seconds > before.seconds + 1.0


def test_a_cpu_updates_one_tensor_after_another() -> None:
    plan, batch = example("pair_1b")
    gpu, cpu = (prices_of(plan, batch, one).update(2) for one in (H200, ON_CPU))
    tensors = sum(len(part.tensors) for part in plan.facts[plan.sink].parts)
    assert cpu > gpu
    table = ON_CPU.updates
    assert table is not None, "measured"
    slower = replace(ON_CPU, updates=replace(table, seconds=tuple(s and s + 1.0 for s in table.seconds)))
    assert prices_of(plan, batch, slower).update(2) == pytest.approx(cpu + tensors, rel=1e-4)


@given(sized_plans(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=20)
def test_every_trained_parameter_of_a_rank_is_updated(plan: Plan, seed: int) -> None:
    """Also those of a rank that has fewer of them than there are tensors."""
    batch = plan.batch(0, random_packs(plan, seed))
    prices = prices_of(plan, batch, ON_CPU)
    for rank in plan.placement.active:
        assert prices._of_shards(rank, float) >= prices._shards.trained_shard(rank)


def test_documents_are_traded_over_cp_and_whole_items_are_not() -> None:
    """Only a module that reads items knows which of them are whole on a rank."""
    plan, _batch = example(
        "pair_1b", "modules.language.layout.tp=1", *(f"modules.{one}.layout.cp=2" for one in ("language", "vision"))
    )
    batch = plan.batch(0, uniform_packs(32, tokens=2048, rows=256))
    assert all(span.rows_in * 2 <= share.rows_in for share in batch.shares[plan.sink][0] for span in share.spans)
    prices = prices_of(plan, batch, H200)
    for rank, exchanges in ((0, False), (2, True)):
        computes = [action for action in plan.schedule.programs[rank] if isinstance(action, Compute)]
        assert [prices.price(rank, action).exchange > 0 for action in computes] == [exchanges] * len(computes)


FIRST = Compute(Node("a", 0), Work.FORWARD, 0)


@pytest.mark.parametrize(
    ("alone", "others", "scale"),
    [
        (0.5, [], 0.5),
        (0.5, [(0, 8)], 0.5),
        (0.5, [(0, 8), (0, 8)], 0.75),
        (0.5, [(0, 8), (0, 8), (0, 8)], 1.0),
        (0.8, [(0, 8), (0, 8)], 0.8),
        # Half of its time beside three others, half beside one: the other half is done twice as fast.
        (0.5, [(-3, 12), (0, 4), (0, 4)], 8 / (4 / 1.0 + 4 / 0.5)),
        (0.5, [(8, 9), (-2, 0)], 0.5),
    ],
)
def test_ranks_share_processors_once_there_are_more_of_them(
    alone: float, others: list[tuple[float, float]], scale: float
) -> None:
    hardware = replace(ON_CPU, alone=alone, ranks_per_node=4)
    rows = [(Interval(FIRST, begin, end),) for begin, end in others]
    assert _scale(Interval(FIRST, 0.0, 8.0), rows, hardware) == pytest.approx(scale)


@given(sized_plans(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=40)
def test_a_step_is_as_long_as_its_busiest_rank_and_its_critical_path(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    found = play(plan, H200, batch, Execution())
    for rank, own in found.breakdowns.items():
        assert own.seconds == pytest.approx(found.seconds)
        assert own.busy <= found.seconds * (1 + 1e-9)
        assert sum(one.end - one.start for one in found.computes[rank]) <= found.seconds * (1 + 1e-9)
    assert critical_path(plan, H200, batch) <= found.seconds * (1 + 1e-9)
    assert len(draw(found, 40).splitlines()) == len(found.same) + 1


def critical_path(plan: Plan, hardware: Hardware, batch: BatchPlan) -> float:
    """The longest chain of computes, each of which reads what the one before it made, without any queue or order."""
    programs = plan.of_step(plan.schedule, batch, batch).programs
    prices = Prices(plan, hardware, batch, Cast(plan, programs, batch), Execution())
    live = {(rank, a) for rank, program in programs.items() for a in program if isinstance(a, Compute)}
    makers = {t: a for _rank, a in live for t in plan.stages.gives(a, plan.microbatches) if t.ahead == a.ahead}
    ends: dict[tuple[int, Compute], float] = {}

    def end(rank: int, action: Compute) -> float:
        if (rank, action) not in ends:
            begins = [0.0, *(end(*before) for before in _before(plan, batch, makers, rank, action) if before in live)]
            ends[rank, action] = max(begins) + prices.cost(rank, action)
        return ends[rank, action]

    return max((end(rank, action) for rank, action in live), default=0.0)


def _before(
    plan: Plan, batch: BatchPlan, makers: dict[Transfer, Compute], rank: int, action: Compute
) -> Iterator[tuple[int, Compute]]:
    if action.work is not Work.FORWARD:
        earlier = Work.INPUT if action.work is Work.WEIGHT else Work.FORWARD
        yield rank, replace(action, work=earlier)
    for transfer in plan.stages.reads(action, plan.microbatches):
        if transfer in makers and not transfer.ahead:
            for copy in plan.route(batch, transfer.link, transfer.exchange).copies:
                ends = (copy.source_rank, copy.target_rank)
                sender, receiver = ends if transfer.direction is Direction.FORWARD else ends[::-1]
                if receiver == rank:
                    yield sender, makers[transfer]


def orders(plan: Plan) -> Iterator[tuple[Action, ...]]:
    """Every order of the computes of a plan in which each comes after what it reads."""
    stages, count = plan.stages, plan.microbatches
    every = [a for a in plan.schedule.order if isinstance(a, Compute)]
    makers = {t: a for a in every for t in stages.gives(a, count)}

    def needs(action: Compute) -> set[Compute]:
        read = {makers[t] for t in stages.reads(action, count)}
        return read if action.work is Work.FORWARD else read | {replace(action, work=Work.FORWARD)}

    def continued(done: tuple[Compute, ...]) -> Iterator[tuple[Compute, ...]]:
        if len(done) == len(every):
            yield done
        for action in every:
            if action not in done and needs(action) <= set(done):
                yield from continued((*done, action))

    for order in continued(()):
        actions: list[Action] = []
        for compute in order:
            actions += [compute, *stages.gives(compute, count)]
        yield (*actions, *(Reduce(node) for node in stages.nodes), Step())


def optimum(plan: Plan, seconds: dict[tuple[str, Work], float]) -> float:
    """The shortest makespan of all orders, with the work of a stage shared out over its ranks."""

    def cost(_rank: int, action: Compute) -> float:
        layout = plan.layouts[action.node.module]
        return seconds[action.node.module, action.work] / layout.stages / layout.dp

    best = float("inf")
    seen: set[object] = set()
    for order in orders(plan):
        programs = distribute("any", plan.microbatches, order, plan.stages).programs
        key = tuple(sorted(programs.items()))
        if key not in seen:
            seen.add(key)
            best = min(best, simulate_programs(plan, programs, None, cost).makespan)
    return best


def tiny(vision: tuple[int, ...], language: tuple[int, ...], microbatches: int, pp: int = 1) -> Plan:
    world = 1 + max(*vision, *language)
    requests = (asked("vision", ranks=vision), asked(LANGUAGE, ranks=language, pp=pp))
    placement = place(world, requests, partial_overlap=True)
    return plan_of(placement, {o.module: ModuleRows(o) for o in placement.layouts}, "1f1b", microbatches)


SIZES = list(product((1.0, 3.0), (2.0, 5.0)))


@pytest.mark.parametrize(("vision", "language"), SIZES)
def test_another_rank_never_makes_the_optimum_worse(vision: float, language: float) -> None:
    """Over all orders of two microbatches; list schedules have anomalies (Graham 1969), optima have none."""
    seconds = {
        ("vision", Work.FORWARD): vision, ("vision", Work.BACKWARD): 2 * vision,
        (LANGUAGE, Work.FORWARD): language, (LANGUAGE, Work.BACKWARD): 2 * language,
    }  # fmt: skip
    one, two = optimum(tiny((0,), (0,), 2), seconds), optimum(tiny((0,), (1,), 2), seconds)
    assert one == 6 * (vision + language)
    assert two <= one
    if (vision, language) == SIZES[0]:
        three = optimum(tiny((0,), (1, 2), 2, pp=2), seconds)
        assert three <= two


@given(sized_plans(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=20)
def test_faster_hardware_never_makes_a_step_longer(plan: Plan, seed: int) -> None:
    """Of the same programs: the machine is monotone in all costs and durations."""
    batch = plan.batch(0, random_packs(plan, seed))
    ends = [_of_links(plan, batch, latency) for latency in (1e-6, 1e-3)]
    assert ends[0] <= ends[1] * (1 + 1e-9)


def _of_links(plan: Plan, batch: BatchPlan, seconds: float) -> float:
    """The step on hardware whose transfers take so much longer."""
    table = H200.transfers
    assert table is not None, "measured"
    slower = replace(H200, transfers=replace(table, seconds=tuple(s and s + seconds for s in table.seconds)))
    return play(plan, slower, batch, Execution()).seconds


def test_programs_that_hang_are_refused() -> None:
    plan, batch = example("pair_1b")
    schedule = plan.schedule
    hanging = reordered(schedule.programs, 2, "vision.0>language.0F1", "vision.0>language.0F0")
    plan.__dict__["schedule"] = replace(schedule, programs=hanging)
    with pytest.raises(ProofError, match="waits without end"):
        play(plan, H200, batch, Execution())


def test_memory_over_time_rises_with_microbatches_in_flight() -> None:
    plan, batch = example("pair_1b", "schedule.kind=gpipe")
    timeline: StepTimeline = play(plan, H200, batch, Execution())
    curve = timeline.memory[2]
    assert curve.peak == max(size for _seconds, size in curve.steps)
    assert [seconds for seconds, _size in curve.steps] == sorted(seconds for seconds, _size in curve.steps)
    one_by_one, same = example("pair_1b")
    assert play(one_by_one, H200, same, Execution()).memory[2].peak < curve.peak


@given(sized_plans(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_roles_stand_for_all_ranks(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    exact = play(plan, H200, batch, Execution())
    by_role = play(plan, H200, batch, Execution(), exact_ranks=0)
    assert sum(by_role.counts.values()) == len(exact.counts)
    assert sorted(rank for ranks in by_role.same for rank in ranks) == sorted(exact.counts)


@pytest.mark.parametrize("microbatches", [1, 4])
@pytest.mark.parametrize("is_colocated", [False, True])
@pytest.mark.parametrize("language", ["tp=1", "tp=2", "pp=2"])
def test_roles_take_what_their_heaviest_lanes_take(microbatches: int, is_colocated: bool, language: str) -> None:
    """Documents of all sizes on 16 ranks: hardly shorter or longer than if all are played. Lanes take turns at having
    the most in a microbatch, so it may be shorter."""
    ranks = [*range(16)]
    vision, text = (ranks, ranks) if is_colocated else (ranks[:8], ranks[8:])
    plan, batch = example(
        "pair_1b", "world.size=16", "training.global_batch_samples=128", f"modules.vision.layout.ranks={vision}",
        f"modules.language.layout.ranks={text}", "modules.language.layout.tp=1", f"modules.language.layout.{language}",
        f"schedule.microbatches={microbatches}",
    )  # fmt: skip
    exact = play(plan, UNTIMED, batch, Execution()).seconds
    by_role = play(plan, UNTIMED, batch, Execution(), exact_ranks=0).seconds
    assert exact * 0.999 <= by_role <= exact * 1.02


@pytest.mark.parametrize("degrees", [Degrees(dp_shard=16, reshard=True), Degrees(dp_shard=16, ep=2)])
def test_lanes_that_meet_in_every_compute_take_what_the_fullest_of_each_microbatch_takes(degrees: Degrees) -> None:
    """To gather parameters, or to trade rows of experts: with documents of all sizes and few of them a lane."""
    data = deepcopy(HYBRID)
    data["data"]["train"][0]["synthetic"]["text_tokens"] = {"kind": "uniform", "low": 64, "high": 8000}
    data["training"]["global_batch_samples"] = 32
    parts = small(data, 16)
    (placed, *_others) = parts.space.placements
    vision, language = (
        (name, Choice(ranks, each, parts.space.recomputes[name][0]))
        for (name, ranks), each in zip(placed.ranks, (Degrees(dp_shard=16, reshard=True), degrees), strict=True)
    )
    plan = parts.scorer.plan(Candidate((vision, language), parts.space.first_of(2)))
    batch = plan.batch(0, parts.work.steps[0])
    exact, by_role = (play(plan, H200, batch, Execution(), exact_ranks=ranks).seconds for ranks in (16, 0))
    assert by_role == pytest.approx(exact, rel=1e-6)


def test_a_role_that_sends_to_many_takes_the_time_of_all_their_rows_once() -> None:
    """A tower on one rank, whose rows go to the seven lanes of a language model, which are one role."""
    plan, batch = example(
        "pair_1b", "world.size=8", "modules.vision.layout={ranks: [0]}",
        "modules.language.layout={ranks: [1, 2, 3, 4, 5, 6, 7]}", "training.global_batch_samples=56",
    )  # fmt: skip
    schedule = plan.of_step(plan.schedule, batch, batch)
    casts = (Cast(plan, schedule.programs, batch, exact) for exact in (64, 0))
    exact, by_role = ((Prices(plan, H200, batch, cast, Execution()), cast) for cast in casts)
    assert len(by_role[1].events) == 2
    found = [
        {post.entry: prices.durations(0, post) for post in cast.events[0] if isinstance(post, Exchange) and post.peers}
        for prices, cast in (exact, by_role)
    ]
    assert found[0] == pytest.approx(found[1])
    assert min(found[0].values()) > 2e-5


def test_roles_of_equal_lanes_take_what_their_ranks_take() -> None:
    plan, _batch = example("pair_1b", "schedule.kind=gpipe")
    batch = plan.batch(0, uniform_packs(16, tokens=2048, rows=256))
    exact, by_role = estimate(plan, H200, [batch]), estimate(plan, H200, [batch], exact_ranks=0)
    assert len(by_role.timeline.counts) == 2 < len(exact.timeline.counts)
    # But for transfers: those of a role carry the most rows that any of its ranks sends.
    assert by_role.seconds == pytest.approx(exact.seconds, rel=1e-3)
    # So a device that waits for them may be less, or more, behind its host.
    assert by_role.breakdown.busy == pytest.approx(exact.breakdown.busy, rel=1e-4)
    assert by_role.breakdown.seconds == pytest.approx(by_role.seconds)
    assert by_role.memory_bytes == exact.memory_bytes
