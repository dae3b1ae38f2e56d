"""What overlaps of gathers and sums: small cases by hand, and bounds of any."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.graph import Node
from counterpoint.plan.part_facts import EXPERTS
from counterpoint.simulate.sharding import by_group, one_after_the_other, overlapped, sharded_groups
from tests.unit.report.pages import example

TIMES = st.lists(st.tuples(*(st.integers(0, 50).map(float),) * 3), min_size=1, max_size=6)


def test_a_gather_is_hidden_by_the_work_before_it() -> None:
    found = overlapped([10.0, 10.0, 10.0], [4.0, 4.0, 4.0], [0.0, 0.0, 0.0])
    assert (found.computes, found.gathers, found.sums) == (30.0, 4.0, 0.0)
    assert overlapped([10.0, 10.0], [4.0, 15.0], [0.0, 0.0]).gathers == 4.0 + 5.0
    # The third is gathered once the first has been computed, so that two are held at once.
    assert overlapped([10.0, 10.0, 10.0], [1.0, 1.0, 15.0], [0.0, 0.0, 0.0]).gathers == 1.0 + 5.0


def test_a_sum_is_hidden_by_the_work_after_it_but_the_last() -> None:
    assert overlapped([10.0, 10.0], [0.0, 0.0], [6.0, 6.0]).sums == 6.0
    assert overlapped([10.0, 3.0], [0.0, 0.0], [6.0, 2.0]).sums == 5.0


@given(TIMES)
def test_nothing_ends_before_its_resources_allow(times: list[tuple[float, float, float]]) -> None:
    computes, gathers, sums = (list(column) for column in zip(*times, strict=True))
    found, apart = overlapped(computes, gathers, sums), one_after_the_other(computes, gathers, sums)
    whole = found.computes + found.gathers + found.sums
    assert whole >= max(sum(computes), sum(gathers), sum(sums)) - 1e-9
    assert whole <= apart.computes + apart.gathers + 1e-9


def test_groups_are_those_of_the_engine() -> None:
    """Without resharding small layers share one, with it each part has its own; tp and pp divide what they hold."""
    plan, _batch = example("pair_1b")
    node = Node("language", 0)
    (first, *_others) = groups = sharded_groups(plan, node)
    parts = plan.facts["language"].parts
    assert sum(group.parameters for group in groups) == sum(-(-part.parameters // 2) for part in parts)
    assert first.parts == (0,)
    assert len(groups) < len(parts)
    resharded, _batch = example("pair_1b", "modules.language.layout.reshard=true")
    assert len(sharded_groups(resharded, node)) == sum(1 for part in parts if part.parameters)


def test_groups_have_the_tensors_of_their_parts() -> None:
    """Those of experts are in groups of their own; a rank that holds experts alone gathers none of them."""
    plan, _batch = example("hybrid_3b")
    node = Node("language", 0)
    parts = plan.facts["language"].parts
    every = [EXPERTS in name for part in parts for name, _shape in part.tensors]
    by_axis: Counter[str] = Counter()
    for group in sharded_groups(plan, node):
        by_axis[group.axis] += group.tensors
    shares_experts = plan.layouts["language"].edp > 1
    assert by_axis == Counter(dp_shard=every.count(False)) + Counter(edp=every.count(True) * shares_experts)
    assert every.count(True)
    shared, _batch = example("hybrid_3b", "modules.language.layout.expert.ep=1")
    held = [group for group in sharded_groups(shared, node) if group.axis == "edp"]
    assert sum(group.tensors for group in held) == every.count(True)


def test_seconds_of_parts_go_to_the_group_that_they_wait_for() -> None:
    plan, _batch = example("pair_1b")
    groups = sharded_groups(plan, Node("language", 0))
    seconds = [float(number) for number in range(len(plan.facts["language"].parts))]
    assert sum(by_group(groups, seconds)) == sum(seconds)
    assert by_group(groups, seconds)[0] == sum(seconds[: groups[1].parts[0]])
