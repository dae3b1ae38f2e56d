"""Memory of a rank: what it stores, and what comes and goes as it walks through its program."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from counterpoint.config.load import load_config
from counterpoint.plan.action import Compute, Reduce, Step
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.tensors import Tensors
from counterpoint.plan.trainability import TrainedPart
from counterpoint.setup.run import build_plan, open_run
from counterpoint.simulate.memory import ALLOCATOR_SHARE, CONTEXT_BYTES, RankMemory, footprint, memory, timeline
from counterpoint.simulate.sizes import Rows, held, lane_rows, node_sizes
from tests.asked import asked
from tests.unit.plan.strategies import LANGUAGE, WIDTHS, plan_of, plans, random_packs, small_plan, uniform_packs

TINY, HYBRID = (Path(__file__).parents[2] / "parity" / f"{name}.yaml" for name in ("tiny", "hybrid"))
NARROW = "training.precision={parameters: float32, compute: bfloat16, reduce: float32}"
HIDDEN, KEPT, ROWS = WIDTHS[LANGUAGE].inside, 10, 64
FLOAT = 4


def parts_of(sizes: tuple[int, ...], experts: tuple[int, ...] = ()) -> tuple[PartFacts, ...]:
    """Layers of so many parameters in vectors, whose products keep `KEPT` values for each row."""
    routed = experts or (0,) * len(sizes)
    return tuple(
        PartFacts(name=f"layers.{number}", tensors=_tensors(size, own), kept=Keeps.alike(Kept(KEPT)), hidden_out=HIDDEN)
        for number, (size, own) in enumerate(zip(sizes, routed, strict=True))
    )


def _tensors(size: int, experts: int) -> Tensors:
    stacked = (("moe.experts.up", (experts, 1, 1)),) if experts else ()
    return (("gain", (size,)), *stacked)


def with_facts(plan: Plan, parts: tuple[PartFacts, ...] = ()) -> Plan:
    """The plan with facts of all modules: these parts, or as many as its stages have."""
    facts = {
        module: ModelFacts(
            parts=parts or parts_of((8,) * plan.splits[module][-1][1]), hidden=widths.inside,
            hidden_in=widths.inside, hidden_out=widths.leaving, row_multiple=1, residual_sums=1,
        )
        for module, widths in plan.widths.items()
    }  # fmt: skip
    return replace(plan, facts=facts)


def language_plan(sizes: tuple[int, ...] = (96, 320), kind: str = "gpipe", **degrees: int) -> Plan:
    size = 1
    for degree in degrees.values():
        size *= degree
    placement = place(size, (asked(LANGUAGE, **degrees),))
    return with_facts(plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, kind, 2), parts_of(sizes))


def used(plan: Plan, rank: int = 0, rows: int = ROWS) -> RankMemory:
    return footprint(plan, rank, _rows(plan, rows), plan.schedule.programs[rank])


def _rows(plan: Plan, rows: int) -> dict[str, tuple[Rows, ...]]:
    return dict.fromkeys(plan.layouts, (Rows(rows, rows, rows, rows),) * plan.microbatches)


def test_what_a_rank_stores() -> None:
    held = used(language_plan(dp_shard=1), rows=0)
    assert (held.parameter_bytes, held.optimizer_bytes) == (FLOAT * 416, 2 * FLOAT * 416)
    assert held.static_bytes == 3 * FLOAT * 416
    assert used(language_plan(dp_shard=4), rows=0).static_bytes == 3 * FLOAT * 104
    assert used(language_plan(dp_replicate=4, dp_shard=1), rows=0).static_bytes == 3 * FLOAT * 416
    assert used(language_plan(tp=4, dp_shard=1), rows=0).static_bytes == 3 * FLOAT * 104


def test_shards_are_padded_tensor_by_tensor_as_torch_cuts_them() -> None:
    assert used(language_plan((5, 7), dp_shard=4), rows=0).parameter_bytes == FLOAT * (2 + 2)


def test_experts_divide_by_their_own_view_and_are_copied_where_a_rank_has_them_alone() -> None:
    placement = place(4, (asked(LANGUAGE, tp=2, ep=2, etp=2),))
    plan = plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, "gpipe", 1)
    plan = replace(with_facts(plan, parts_of((96, 96), (0, 800))), dtype="bfloat16")
    held = used(plan, rows=0)
    dense, routed = 2 * 96 // 2 // 2, 800 // 4
    assert held.parameter_bytes == FLOAT * (dense + routed) + 2 * routed
    resharded = place(4, (asked(LANGUAGE, tp=2, ep=2, etp=2, reshard=True),))
    assert used(replace(plan, placement=resharded), rows=0).parameter_bytes == FLOAT * (dense + routed)


def test_rows_wait_from_their_forward_to_the_end_of_their_backward() -> None:
    plan = language_plan(dp_shard=1)
    program = plan.schedule.programs[0]
    each = 2 * ROWS * KEPT * FLOAT
    peaks = dict(zip(map(str, program), timeline(plan, 0, _rows(plan, ROWS), program), strict=True))
    assert peaks["language.0F0"].activation_bytes == each
    assert peaks["language.0F1"].activation_bytes == 2 * each
    assert peaks["S"].activation_bytes == 0
    assert used(plan).at == "language.0B0"


def test_gradients_are_whole_until_they_are_summed_and_gone_after_the_update() -> None:
    plan = language_plan(dp_shard=4)
    program = plan.schedule.programs[0]
    found = dict(zip(program, timeline(plan, 0, _rows(plan, 0), program), strict=True))
    last = next(action for action in reversed(program) if isinstance(action, Compute))
    # FSDP keeps the buffer that it summed, as large as all gradients, until it needs another one or has the sums.
    assert found[Step()].gradient_bytes == FLOAT * (416 + 104)
    assert found[Reduce(last.node)].gathered_bytes == 0


def _moving(plan: Plan) -> dict[str, int]:
    """Bytes beside what stays at the peak of each kind of action, the last one of a step."""
    program = plan.schedule.programs[0]
    peaks = zip(program, timeline(plan, 0, _rows(plan, 0), program), strict=True)
    return {type(action).__name__: peak.total_bytes - peak.static_bytes for action, peak in peaks}


def test_one_rank_has_its_sums_where_its_gradients_were_copied() -> None:
    plan = replace(language_plan(kind="zero_bubble", dp_shard=1), dtype="bfloat16")
    found = _moving(plan)
    assert (found["Reduce"], found["Step"]) == (FLOAT * (416 + 416), FLOAT * 416)


def test_experts_are_summed_over_a_mesh_of_their_own() -> None:
    """Under tp2 a rank that is alone with its dense parameters shares its experts with the other one."""

    def moving(**degrees: int) -> dict[str, int]:
        placement = place(2, (asked(LANGUAGE, **degrees),))
        plan = plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, "gpipe", 2)
        return _moving(replace(with_facts(plan, parts_of((8, 8), (800, 0))), dtype="bfloat16"))

    shared, alone = moving(tp=2), moving(dp_shard=2, ep=2, reshard=True)
    assert shared["Reduce"] == pytest.approx(moving(dp_shard=2)["Reduce"], rel=0.02)
    # Half of the experts in float32, once.
    assert alone["Reduce"] == pytest.approx(800 // 2 * 4, rel=0.05)


def test_the_buffer_of_a_sum_is_free_when_the_next_one_is_needed() -> None:
    plan = language_plan(dp_shard=4, reshard=True)
    assert _moving(plan)["Step"] == FLOAT * (104 + 96)


def test_gradients_of_a_single_microbatch_are_not_widened_before_they_are_copied() -> None:
    plan = replace(language_plan(dp_shard=1), dtype="bfloat16", microbatches=1)
    assert _moving(plan)["Compute"] == (2 + FLOAT) * 416


def test_gradients_of_experts_that_a_rank_has_alone_stay_as_they_were_made_or_added() -> None:
    placement = place(1, (asked(LANGUAGE),))
    plan = plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, "gpipe", 1)
    plan = replace(with_facts(plan, parts_of((8, 8), (0, 800))), dtype="bfloat16")
    assert _moving(plan)["Step"] == FLOAT * 16 + 2 * 800
    assert _moving(replace(plan, microbatches=2))["Step"] == FLOAT * 16 + FLOAT * 800


@pytest.mark.parametrize("kind", ["gpipe", "1f1b", "zero_bubble"])
def test_a_second_step_needs_what_the_first_did(kind: str) -> None:
    """What a step takes it gives back."""
    plan = language_plan(kind=kind, dp_shard=2)
    program = plan.schedule.programs[0]
    peaks = list(timeline(plan, 0, _rows(plan, ROWS), (*program, *program)))
    assert peaks[: len(program)] == peaks[len(program) :]


@given(plans())
def test_every_rank_of_any_plan_gives_back_what_it_takes(plan: Plan) -> None:
    plan = with_facts(plan)
    batch = plan.batch(0, random_packs(plan, 1))
    rows, programs = lane_rows(plan, batch), plan.of_step(plan.schedule, batch, batch).programs
    assert tuple(sorted(memory(plan, rows, programs))) == plan.placement.active
    for rank, program in programs.items():
        peaks = list(timeline(plan, rank, rows, (*program, *program)))
        assert peaks[: len(program)] == peaks[len(program) :]
        assert all(peak.total_bytes >= peak.static_bytes > 0 for peak in peaks)


def test_frozen_parts_have_neither_gradients_nor_moments_nor_inputs_of_their_weights() -> None:
    plan = language_plan(dp_shard=1)
    read = Keeps.alike(Kept(KEPT, is_read=True))
    model = plan.facts[LANGUAGE]
    parts = (replace(model.parts[0], kept=read), model.parts[1])
    trained = (TrainedPart.whole(0, is_trained=False), TrainedPart.whole(320, is_trained=True))
    frozen = replace(plan, facts={LANGUAGE: replace(model, parts=parts)}, trained={LANGUAGE: trained})
    held = used(frozen)
    assert held.optimizer_bytes == 2 * FLOAT * 320
    assert held.activation_bytes == used(plan).activation_bytes // 2


def test_rows_are_those_of_the_fullest_lane() -> None:
    plan = small_plan()
    rows = lane_rows(plan, plan.batch(0, uniform_packs(4)))
    assert rows["vision"][0] == Rows(enter=4, leave=4, all_out=8, labelled=0)
    assert rows["language"][0].enter == 24


def test_experts_have_room_for_all_choices_where_lanes_have_as_many_rows() -> None:
    """Else the ranks tell each other how many come."""
    placed = ("modules.vision.layout.ranks=[0, 1]", "modules.language.layout={ranks: [0, 1], expert: {ep: 2}}")
    plan = build_plan(load_config(HYBRID, ["run.device=cuda", NARROW, *placed]))
    node = plan.nodes_of(0)[-1]
    even, uneven = (held(plan, node, Rows(ROWS, ROWS, 2 * ROWS, ROWS, is_even=is_even)) for is_even in (True, False))
    for part, one, other in zip(plan.facts["language"].parts, even, uneven, strict=True):
        assert (one.full > other.full) is (one.backward > other.backward) is bool(part.mixtures)


@given(plans())
def test_lanes_are_even_as_their_documents_are(plan: Plan) -> None:
    batch = plan.batch(0, random_packs(plan, 1))
    for module, of_module in lane_rows(plan, batch).items():
        for number, rows in enumerate(of_module):
            assert rows.is_even is (module == plan.sink and batch.has_even_lanes(number))


def test_the_allocator_has_a_share_of_its_own() -> None:
    held = RankMemory(1000, 2000, 3000, 4000, 5000, 6000)
    assert held.total_bytes == 21000
    assert held.allocator_bytes == 21000 * ALLOCATOR_SHARE + CONTEXT_BYTES


def _peak(*overrides: str) -> RankMemory:
    setup = open_run(load_config(TINY, ["data.sequence_tokens=512", *overrides]))
    batch = setup.plan.batch(0, setup.corpus.packs(0))
    (rank,) = setup.plan.layouts["language"].ranks
    return memory(setup.plan, lane_rows(setup.plan, batch), setup.plan.schedule.programs)[rank]


def test_what_is_made_again_or_waits_on_the_host_is_not_kept() -> None:
    plain, full = _peak(), _peak("modules.language.recompute=full")
    parts, away = _peak("modules.language.recompute=[norms]"), _peak("modules.language.offload=true")
    assert away.activation_bytes < full.activation_bytes < parts.activation_bytes < plain.activation_bytes
    assert full.static_bytes == plain.static_bytes


def test_the_path_follows_from_device_dtype_and_compilation() -> None:
    paths = {
        ("run.device=cpu", NARROW): "plain",
        ("run.device=cuda",): "plain",
        ("run.device=cuda", NARROW): "kernels",
        ("run.device=auto", NARROW, "training.compile=true"): "compiled",
        ("run.device=cuda", NARROW, "training.steps=200"): "compiled",
    }
    assert {keys: build_plan(load_config(TINY, keys)).path for keys in paths} == paths


def test_parameters_that_tensor_parallelism_leaves_whole_are_stored_whole() -> None:
    layout = "modules.language.layout={ranks: [0, 1], tp: 2}"
    plan = build_plan(load_config(TINY, ["modules.vision.layout.ranks=[0, 1]", layout]))
    sizes = node_sizes(plan, plan.nodes_of(0)[-1])
    first = plan.facts["language"].parts[1]
    norms = sum(shape[0] for name, shape in first.tensors if "norm" in name)
    assert sizes.parts[1].dense == (first.parameters - norms) // 2 + norms
