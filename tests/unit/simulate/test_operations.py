"""The operations of parts: the FLOPs that facts count, over all ranks that share them."""

from dataclasses import replace
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.costs.host import HostWork
from counterpoint.plan.activations import ActivationPolicy
from counterpoint.plan.layout import Layout
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork
from counterpoint.setup.run import build_plan
from counterpoint.simulate.operations import (
    Core,
    Exchange,
    HostCopy,
    Operation,
    PartOperations,
    Product,
    Setting,
    Traffic,
    part_operations,
)
from counterpoint.simulate.seconds import calls_of
from tests.unit.report.pages import EXAMPLES

ROWS = 4096


def parts() -> dict[str, tuple[Plan, str, PartFacts]]:
    """One part of each kind of the recipes."""
    found: dict[str, tuple[Plan, str, PartFacts]] = {}
    for file in ("nemotron6-moe-vlm-20l", "qwen3-vl-8b", "llava-audio"):
        plan = build_plan(load_config(EXAMPLES.parent / "recipes" / f"{file}.yaml", []))
        for module, facts in plan.facts.items():
            for part in facts.parts:
                stem = part.name.partition(".")[0] + "".join(part.kinds)
                found.setdefault(f"{file}: {module}.{stem}", (plan, module, part))
    return found


PARTS = parts()


def layout_of(**degrees: Any) -> Layout:
    size = degrees.get("tp", 1) * degrees.get("cp", 1) * degrees.get("dp_shard", 1)
    return Layout(module="language", ranks=tuple(range(size)), **degrees)


def operations(name: str, rows: int = ROWS, **degrees: Any) -> PartOperations:
    plan, module, facts = PARTS[name]
    setting = Setting(layout=layout_of(**degrees), value_bytes=2, is_compiled=True)
    return part_operations(PartWork(facts, 1.0, 1.0, True), plan.facts[module].load([rows]), rows, setting)


def flops(operations: tuple[Operation, ...]) -> float:
    return sum(2 * one.rows * one.inner * one.columns * one.share for one in operations if isinstance(one, Product))


HAS_SCAN = [name for name, (_plan, _module, part) in PARTS.items() if any(mixer.state for mixer in part.mixers)]


@pytest.mark.parametrize("name", [name for name in PARTS if name not in HAS_SCAN])
@pytest.mark.parametrize("degrees", [{}, {"tp": 2}, {"cp": 2}, {"tp": 2, "cp": 2}], ids=str)
def test_products_have_the_flops_that_facts_count(name: str, degrees: dict[str, int]) -> None:
    """Over all ranks of a lane, but for roundings; scores make their gradients in forward."""
    plan, module, part = PARTS[name]
    made = operations(name, **degrees)
    ranks = degrees.get("tp", 1) * degrees.get("cp", 1)
    counted = part.flops_of_rows(plan.facts[module].load([ROWS]))
    if part.expert_parameters:
        # Experts are not cut by tp: a rank computes its own rows for all columns.
        assert flops(made.forward) * ranks == pytest.approx(counted, rel=0.02)
        return
    times = 3 if part.scores else 1
    assert flops(made.forward) * ranks == pytest.approx(times * counted, rel=0.02)
    if not part.scores:
        assert flops(made.inputs) * ranks == pytest.approx(counted, rel=0.02)
        assert flops(made.weights) * ranks == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("name", [name for name, (_p, _m, part) in PARTS.items() if part.flops_per_pair])
def test_cores_have_the_pairs_that_facts_count(name: str) -> None:
    plan, module, part = PARTS[name]
    for degrees in ({}, {"tp": 2}, {"cp": 2}):
        cores = [one for one in operations(name, **degrees).forward if isinstance(one, Core)]
        counted = sum(4 * one.pairs * one.heads * one.width for one in cores) * max(1, *degrees.values(), 1)
        assert counted == pytest.approx(part.flops_of_pairs(plan.facts[module].load([ROWS])), rel=0.02)


@pytest.mark.parametrize("name", HAS_SCAN)
def test_scans_have_heads_of_their_own(name: str) -> None:
    (core,) = (one for one in operations(name, tp=2).forward if isinstance(one, Core))
    assert (core.rows, core.heads, core.state, core.pairs) == (ROWS, 32, 128, 0)


MOE, ATTENTION, HEAD = (f"nemotron6-moe-vlm-20l: language.{kind}" for kind in ("layersE", "layers*", "head"))


def exchanges(operations: tuple[Operation, ...], axis: str) -> list[Exchange]:
    return [one for one in operations if isinstance(one, Exchange) and one.axis == axis]


def test_experts_trade_rows_each_way_and_compute_those_that_arrive() -> None:
    made = operations(MOE, dp_shard=4, ep=4)
    grouped = [one for one in made.forward if isinstance(one, Product) and one.groups > 1]
    assert {one.groups for one in grouped} == {32}
    assert {one.rows for one in grouped} == {ROWS * 6}
    sent = exchanges(made.forward, "ep")
    assert [one.kind for one in sent] == ["all_to_all"] * 2
    # Of six choices of 128 experts, rows reach 4 (1 - (3/4) ** 6) of four ranks.
    assert sent[0].size_bytes == pytest.approx(ROWS * 2688 * 2 * 4 * (1 - 0.75**6), rel=1e-3)
    assert len(exchanges(made.inputs, "ep")) == 2
    cut = [
        one for one in operations(MOE, dp_shard=4, ep=2, etp=2).forward if isinstance(one, Product) and one.groups > 1
    ]
    assert {(one.groups, one.rows, min(one.inner, one.columns)) for one in cut} == {(64, 2 * ROWS * 6, 1856 // 2)}
    assert not exchanges(operations(MOE).forward, "ep")


def test_tensor_parallel_sublayers_gather_and_sum_their_rows() -> None:
    made = operations(ATTENTION, tp=4)
    assert [(one.kind, one.size_bytes) for one in exchanges(made.forward, "tp")] == [
        ("all_gather", ROWS * 2688 * 2), ("reduce_scatter", ROWS * 2688 * 2),
    ]  # fmt: skip
    assert [one.kind for one in exchanges(made.inputs, "tp")] == ["reduce_scatter", "all_gather"]
    assert not exchanges(made.weights, "tp")


def test_context_parallel_cores_trade_rows_for_heads_unless_documents_are_whole() -> None:
    made = operations(ATTENTION, cp=2)
    assert [one.kind for one in exchanges(made.forward, "cp")] == ["all_to_all"] * 4
    plan, module, facts = PARTS[ATTENTION]
    whole = Setting(layout=layout_of(cp=2), value_bytes=2, is_compiled=True, is_whole=True)
    apart = part_operations(PartWork(facts, 1.0, 1.0, True), plan.facts[module].load([ROWS]), ROWS, whole)
    assert not exchanges(apart.forward, "cp")
    (core,) = (one for one in apart.forward if isinstance(one, Core))
    assert (core.rows, core.heads) == (ROWS // 2, 32)


def test_recomputation_runs_forward_again_and_may_keep_attention() -> None:
    plan, module, facts = PARTS[ATTENTION]
    load, work = plan.facts[module].load([ROWS]), PartWork(facts, 1.0, 1.0, True)
    setting = Setting(layout=layout_of(), value_bytes=2, is_compiled=True)
    plain = part_operations(work, load, ROWS, setting)
    again = part_operations(work, load, ROWS, replace(setting, is_recomputed=True))
    assert flops(again.inputs) == flops(plain.inputs) + flops(plain.forward)
    assert again.weights == plain.weights
    keeps = ActivationPolicy(keeps=frozenset({"attention"}))
    kept = part_operations(work, load, ROWS, replace(setting, is_recomputed=True, policy=keeps))
    assert [one.backward for one in again.inputs if isinstance(one, Core)] == [False, True]
    assert [one.backward for one in kept.inputs if isinstance(one, Core)] == [True]


def test_what_waits_on_the_host_travels_there_and_back() -> None:
    plan, module, facts = PARTS[ATTENTION]
    setting = Setting(layout=layout_of(), value_bytes=2, is_compiled=True, is_offloaded=True, kept_bytes=200)
    made = part_operations(PartWork(facts, 1.0, 1.0, True), plan.facts[module].load([ROWS]), ROWS, setting)
    for pass_ in (made.forward, made.inputs):
        assert [one.size_bytes for one in pass_ if isinstance(one, HostCopy)] == [200 * ROWS]


def test_a_frozen_part_has_no_weight_gradients_and_plain_layers_move_more_bytes() -> None:
    plan, module, facts = PARTS[ATTENTION]
    load, setting = plan.facts[module].load([ROWS]), Setting(layout=layout_of(), value_bytes=2, is_compiled=True)
    frozen = part_operations(PartWork(facts, 1.0, 0.0, True), load, ROWS, setting)
    assert frozen.weights == ()
    assert part_operations(PartWork(facts, 0.0, 0.0, False), load, ROWS, setting).inputs == ()

    def moved(setting: Setting) -> int:
        made = part_operations(PartWork(facts, 1.0, 1.0, True), load, ROWS, setting)
        return sum(one.size_bytes for one in made.forward if isinstance(one, Traffic))

    assert moved(replace(setting, is_compiled=False)) > moved(setting)


def test_scores_make_their_gradients_in_forward() -> None:
    made = operations(HEAD)
    assert made.inputs == made.weights == ()


def test_each_norm_takes_longer_than_its_bytes_where_it_is_compiled() -> None:
    """A layer of a tower has two sublayers, and a norm for each."""
    name = next(
        name for name, (_plan, _module, part) in PARTS.items() if part.name.startswith("layers.") and "vision" in name
    )
    plan, module, facts = PARTS[name]
    for is_compiled, passes, norms in ((True, 1.0, 5.0), (False, 2.0, 0.0)):
        setting = Setting(layout=layout_of(), value_bytes=2, is_compiled=is_compiled)
        found = part_operations(PartWork(facts, 1.0, 1.0, True), plan.facts[module].load([ROWS]), ROWS, setting)
        (size,) = (one.size_bytes for one in found.forward if isinstance(one, Traffic))
        assert size == round(2 * ROWS * (facts.activation_elements * passes + 2 * facts.hidden_out * norms))


def test_calls_of_a_host_are_those_of_forward() -> None:
    product = Product(1, 1, 1)
    cores = (Core(1, 0, 1, 1, state, False) for state in (0, 16))
    exchanges = (Exchange("all_gather", "tp", 1, by_parts=by_parts) for by_parts in ((), (product,)))
    found = calls_of([product, *cores, *exchanges, Traffic(1, 9), Traffic(1, 9, plain=True)])
    assert found == HostWork(exchanges=3, mixtures=1, scans=1)
