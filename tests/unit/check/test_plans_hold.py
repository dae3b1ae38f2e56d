"""Every plan that the builders make passes its proof, whole and with any microbatches erased."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.check.grid import format_programs
from counterpoint.check.proof import check_plan, check_programs
from counterpoint.plan.action import Action, Compute, Transfer
from counterpoint.plan.plan import Plan
from tests.unit.plan.strategies import chain_plan, plans, random_packs, small_plan, uniform_packs


@given(plans())
def test_templates_hold(plan: Plan) -> None:
    proof = check_plan(plan)
    assert proof.ranks == len(plan.placement.active)
    for node, held in proof.in_flight.items():
        depth = plan.stages.depth(node)
        assert held <= (plan.microbatches if plan.kind == "gpipe" else min(depth, plan.microbatches))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(plans(max_world=64, max_microbatches=6))
def test_templates_hold_to_64_ranks(plan: Plan) -> None:
    check_plan(plan)


@given(plans(), st.integers(0, 2**16))
def test_steps_hold_for_any_batch(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    proof = check_plan(plan, batch)
    routes = [plan.route(batch, link, m) for link in plan.stages.links for m in range(plan.microbatches)]
    assert proof.rows == sum(route.rows for route in routes)


@given(plans(), st.data())
def test_erasing_whole_matched_events_creates_no_cycle(plan: Plan, data: st.DataObject) -> None:
    """Design D3: what a module does in a microbatch goes as a whole, on all ranks alike."""
    cells = [(module, m) for module in plan.graph.modules for m in range(plan.microbatches)]
    erased = data.draw(st.sets(st.sampled_from(cells)))

    def keeps(action: Action) -> bool:
        match action:
            case Compute(node=node, microbatch=m):
                return (node.module, m) not in erased
            case Transfer(link=link, microbatch=m):
                return not {(link.source.module, m), (link.target.module, m)} & erased
        return True

    check_programs(plan, plan.schedule.keep(keeps).programs)
    check_programs(plan, plan.evaluation.keep(keeps).programs)


def test_a_proof_prints_its_numbers() -> None:
    plan = small_plan()
    text = str(check_plan(plan, plan.batch(0, uniform_packs(4))))
    assert "proved: " in text
    assert "4 ranks" in text
    assert "16 rows delivered once each" in text
    assert "in flight at most: language.0 2, vision.0 2" in text


def test_programs_print_one_line_per_distinct_program() -> None:
    text = format_programs(small_plan(microbatches=1).schedule.programs)
    vision = "vision.0F0  vision.0>language.0F0  vision.0>language.0B0  vision.0B0  vision.0R  S"
    language = "vision.0>language.0F0  language.0F0  language.0B0  vision.0>language.0B0  language.0R  S"
    assert text.splitlines() == [f"rank 0-1 | {vision}", f"rank 2-3 | {language}"]


def test_an_edge_free_plan_of_one_rank_holds() -> None:
    assert check_plan(chain_plan(1, 2, "1f1b")).posts == 0
