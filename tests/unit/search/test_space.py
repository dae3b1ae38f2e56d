"""What may vary: placements, degrees, recomputation, schedules, and what a user holds."""

import copy
from dataclasses import replace

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError, InputError
from counterpoint.search.candidate import Candidate, Choice
from counterpoint.search.moves import layout_moves, schedule_moves
from counterpoint.search.placements import Placed, placements, sizes
from counterpoint.search.varied import held_keys, schedule_kinds, varied_keys
from tests.unit.search.worlds import HYBRID, PAIR, Small, small


def _ranks(found: Placed) -> dict[str, tuple[int, ...]]:
    return {module: tuple(ranks) for module, ranks in found.ranks}


def test_modules_share_all_ranks_or_split_them() -> None:
    found = [_ranks(placed) for placed in placements(3, ("a", "b"), {}, partial_overlap=False)]
    assert found == [
        {"a": (0, 1, 2), "b": (0, 1, 2)},
        {"a": (0,), "b": (1, 2)},
        {"a": (0, 1), "b": (2,)},
    ]


def test_some_of_three_modules_may_share_ranks() -> None:
    found = [_ranks(placed) for placed in placements(3, ("a", "b", "c"), {}, partial_overlap=False)]
    assert {"a": (0,), "b": (1, 2), "c": (0,)} in found
    assert {"a": (0,), "b": (1,), "c": (2,)} in found
    covered = [sorted({rank for ranks in one.values() for rank in ranks}) for one in found]
    assert covered == [[0, 1, 2]] * len(found)
    assert len({str(one) for one in found}) == len(found)


def test_encoders_may_be_on_some_ranks_of_the_sink_only_if_the_config_says_so() -> None:
    mixed = {"a": (0,), "b": (0, 1, 2)}
    allowed = [_ranks(placed) for placed in placements(3, ("a", "b"), {}, partial_overlap=True)]
    refused = [_ranks(placed) for placed in placements(3, ("a", "b"), {}, partial_overlap=False)]
    assert mixed in allowed
    assert mixed not in refused


def test_held_ranks_stay() -> None:
    found = [_ranks(placed) for placed in placements(4, ("a", "b"), {"a": range(1, 3)}, partial_overlap=False)]
    assert found == [{"a": (1, 2), "b": (0, 3)}]


def test_splits_of_a_large_world_are_few_and_reach_down_to_one_rank() -> None:
    found = sizes(1024)
    assert found[:7] == (1, 2, 4, 8, 16, 32, 64)
    assert found[-1] == 896
    assert len(found) < 16


@pytest.fixture(scope="module")
def hybrid() -> Small:
    return small(HYBRID, 8)


def test_degrees_multiply_to_the_ranks_and_pass_the_rules(hybrid: Small) -> None:
    for module in hybrid.space.modules:
        for degrees in hybrid.space.degrees(module, 8):
            assert degrees.pp * degrees.dp * degrees.cp * degrees.tp == 8
            assert degrees.edp * degrees.ep * degrees.etp == degrees.stage_size
    language = hybrid.space.degrees("language", 8)
    assert {degrees.tp for degrees in language} == {1, 2, 4}  # The groups of Mamba-2 refuse 8.
    assert {degrees.ep for degrees in language} == {1, 2, 4, 8}
    assert hybrid.space.refused["modules.language.model.moe.experts"] > 0


def test_every_layout_of_the_space_is_planned(hybrid: Small) -> None:
    for placed in hybrid.space.placements[:3]:
        seen = 0
        for candidate in hybrid.space.candidates(placed):
            assert hybrid.space.problem(candidate) is None
            assert hybrid.scorer.plan(candidate).placement.world_size == 8
            seen += 1
            if seen == 20:
                break
        assert seen


def test_moves_change_one_choice(hybrid: Small) -> None:
    first = next(hybrid.space.candidates(hybrid.space.placements[0]))
    layouts = list(layout_moves(hybrid.space, first))
    assert layouts
    for move in layouts:
        changed = [a for a, b in zip(first.choices, move.choices, strict=True) if a != b]
        assert len(changed) <= 1
        assert move != first
    keys = [
        {key for key, value in move.schedule.model_dump().items() if value != first.schedule.model_dump()[key]}
        for move in schedule_moves(hybrid.space, first)
    ]
    assert all(len(each) == 1 for each in keys)
    assert {"kind", "encoder", "buffer"} <= set().union(*keys)


def test_a_frozen_module_computes_nothing_again() -> None:
    data = copy.deepcopy(PAIR)
    data["modules"]["vision"]["train"] = "none"
    parts = small(data, 2)
    assert [str(again) for again in parts.space.recomputes["vision"]] == ["none"]
    assert [str(again) for again in parts.space.recomputes["language"]] == [
        "none", "norms+activations", "full, keeps attention", "full",
    ]  # fmt: skip
    first = next(parts.space.candidates(parts.space.placements[0]))
    assert {schedule.run_ahead for schedule in parts.space.schedules(first)} == {0, 1}


def test_a_search_varies_nothing_that_is_held() -> None:
    overrides = (
        "modules.vision.layout={tp: 2, ranks: [0, 1]}", "schedule.kind=gpipe", "schedule.microbatches=4",
        "modules.language.recompute=full",
    )  # fmt: skip
    parts = small(PAIR, 4, fixed=("modules.*.layout.reshard", "modules.*.layout.cp"), overrides=overrides)
    (placed,) = parts.space.placements
    assert _ranks(placed) == {"vision": (0, 1), "language": (2, 3)}
    for candidate in parts.space.candidates(placed):
        choices = candidate.by_module
        assert choices["vision"].degrees.tp == 2
        assert not any(choice.degrees.reshard or choice.degrees.cp > 1 for choice in choices.values())
        assert choices["language"].recompute.what == "full"
        assert candidate.schedule.kind == "gpipe"
        assert candidate.schedule.microbatches == 4


def test_held_keys_come_from_patterns_and_overrides() -> None:
    config = load_config(PAIR, ["modules.vision.layout.tp=2"])
    held = held_keys(config, ("schedule.*",), ("modules.vision.layout.tp=2", "training.steps=7"))
    assert held["modules.vision.layout.tp"] == 2
    assert held["schedule.buffer"] is None
    assert set(held) == {
        "modules.vision.layout.tp", *(key for key in varied_keys(config) if key.startswith("schedule.")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fixed", "words"),
    [("modules.vision.layout.pq", "modules.vision.layout"), ("training.steps", "a key that the search varies")],
)
def test_a_key_that_is_not_varied_cannot_be_fixed(fixed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--fix: got .*{words}.*; correct it or leave it out$"):
        held_keys(load_config(PAIR), (fixed,), ())


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'^--schedule: got "2f2b", expected one of gpipe, 1f1b, .*; correct it$'):
        schedule_kinds(("2f2b",))


def test_chunks_are_varied_with_schedules_that_use_them(hybrid: Small) -> None:
    placed = hybrid.space.placements[0]
    choices = [
        (name, Choice(ranks, degrees, hybrid.space.recomputes[name][0]))
        for name, ranks in placed.ranks
        for degrees in [next(each for each in hybrid.space.degrees(name, 8) if each.pp == 2)]
    ]
    candidate = Candidate(tuple(choices), hybrid.space.first_schedule.model_copy(update={"microbatches": 1}))
    chunked = {
        (move.by_module["language"].degrees.chunks, move.schedule.kind)
        for move in layout_moves(hybrid.space, candidate)
    }
    assert {(2, "1f1b"), (1, "1f1b")} <= chunked
    assert "interleaved" not in {schedule.kind for schedule in hybrid.space.schedules(candidate)}


def test_a_world_into_which_nothing_fits_is_said_in_a_sentence() -> None:
    parts = small(PAIR, 2)
    with pytest.raises(InputError, match=r"^search: got 2 ranks of 0\.5 GiB, .*; use more ranks or more memory"):
        parts.walk(simulations=8, memory_gib=0.5).run()


def test_a_degree_that_divides_no_group_of_ranks_is_said_in_a_sentence() -> None:
    parts = small(PAIR, 3, overrides=("modules.vision.layout.tp=2", "modules.language.layout.tp=2"))
    with pytest.raises(InputError, match=r"^search: got 3 ranks .*, over which no layout of all modules divides"):
        parts.walk(simulations=8).run()


def test_a_world_with_more_ranks_than_the_batch_feeds_names_the_batch() -> None:
    held = tuple(f"modules.{name}.layout.{axis}=1" for name in ("vision", "language") for axis in ("tp", "cp", "pp"))
    parts = small(PAIR, 48, overrides=(*held, "modules.vision.layout.ranks=0-23"))
    with pytest.raises(InputError, match=r"refuse degrees by training\.global_batch_samples; raise training\.global_"):
        parts.walk(simulations=8).run()


@pytest.mark.parametrize(("schedules", "first"), [
    (("interleaved", "gpipe"), "gpipe"), (("gpipe", "interleaved"), "gpipe"),
    (("interleaved", "zero_bubble"), "zero_bubble"), ((), "1f1b"),
])  # fmt: skip
def test_layouts_are_compared_on_a_schedule_that_takes_them_without_chunks(
    schedules: tuple[str, ...], first: str
) -> None:
    parts = small(PAIR, 4, schedules=schedules)
    assert parts.space.first_schedule.kind == first
    assert parts.walk(simulations=8).run().outcomes


@pytest.mark.parametrize(
    ("schedules", "overrides"),
    [
        (("interleaved",), ()),
        (("interleaved",), ("modules.vision.layout.chunks=2",)),
        (("interleaved",), ("modules.language.layout.chunks=1",)),
    ],
)
def test_a_schedule_that_needs_chunks_gets_layouts_with_chunks(
    schedules: tuple[str, ...], overrides: tuple[str, ...]
) -> None:
    walk = small(PAIR, 4, schedules=schedules, overrides=overrides).walk(simulations=8)
    found = walk.run()
    assert found.counts.simulated == 8
    for outcome in found.outcomes:
        assert outcome.candidate.schedule.kind == "interleaved"
        assert any(choice.degrees.chunks > 1 for _name, choice in outcome.candidate.choices)


def test_a_search_of_which_every_candidate_is_refused_does_not_blame_the_world() -> None:
    parts = small(
        PAIR, 2, schedules=("interleaved",), overrides=("modules.language.layout.pp=1", "modules.vision.layout.pp=1")
    )
    with pytest.raises(
        InputError,
        match=r"rules refuse all [\d,]+ candidates that were looked at \(by schedule\.kind [\d,]+\).*--schedule",
    ) as raised:
        parts.walk(simulations=8).run()
    assert "--world-size" not in str(raised.value)


def test_of_candidates_that_take_the_same_time_one_layout_for_all_modules_is_first() -> None:
    walk = small(PAIR, 2).walk(simulations=8, top=8)
    outcomes = walk.run().outcomes
    score = outcomes[0].score
    nearly = [replace(score, seconds=score.seconds * (1.0 + place * 1e-12)) for place in range(len(outcomes))]
    own_first = sorted(outcomes, key=lambda each: each.candidate.is_homogeneous)
    walk._outcomes[:] = [replace(each, score=near) for each, near in zip(own_first, nearly, strict=True)]
    ranking = walk._ranking()
    assert not own_first[0].candidate.is_homogeneous
    assert ranking[0].candidate.is_homogeneous
