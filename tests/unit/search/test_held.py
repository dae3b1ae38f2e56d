"""What the user says stays: the split of layers over stages, and idle ranks."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import InputError
from counterpoint.search.candidate import config_of
from counterpoint.search.find import Wish, find
from counterpoint.search.placements import placements
from counterpoint.search.rewrite import Winner, changed_keys
from tests.unit.search.worlds import PAIR, small

SPLIT = "modules.language.layout.split"


def _pair(world: dict[str, Any], ranks: list[int], **language: Any) -> dict[str, Any]:
    data = copy.deepcopy(PAIR)
    data["world"] = world
    data["modules"]["vision"]["layout"]["ranks"] = ranks
    data["modules"]["language"]["layout"] = {"ranks": ranks, **language}
    return data


@pytest.mark.parametrize(("fixed", "overrides"), [((SPLIT,), ()), ((), (f"{SPLIT}=[3, 1]",))])
def test_a_held_split_keeps_its_number_of_stages(fixed: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    parts = small(_pair({"size": 2}, [0, 1], pp=2, split=[3, 1]), 4, fixed=fixed, overrides=overrides)
    cuts = parts.space.degrees("language", 4)
    assert {(each.pp, each.chunks) for each in cuts} == {(2, 1)}
    assert not any(list(parts.space.chunks("language", each)) for each in cuts)
    for outcome in parts.walk(simulations=4).run().outcomes:
        assert parts.scorer.config(outcome.candidate).modules["language"].layout.split == (3, 1)


def test_chunks_make_up_the_stages_of_a_held_split() -> None:
    data = _pair({"size": 4}, [0, 1, 2, 3], pp=4, split=[1, 1, 1, 1])
    parts = small(data, 4, fixed=(SPLIT,))
    assert {(each.pp, each.chunks) for each in parts.space.degrees("language", 4)} == {(4, 1), (2, 2)}
    parts = small(data, 4, fixed=(SPLIT, "modules.language.layout.chunks"))
    assert {(each.pp, each.chunks) for each in parts.space.degrees("language", 4)} == {(4, 1)}
    parts = small(data, 4, fixed=(SPLIT,), schedules=("interleaved",))
    assert {(each.pp, each.chunks) for each in parts.space.degrees("language", 4)} == {(2, 2)}


def test_an_even_split_that_is_held_holds_no_stages() -> None:
    data = _pair({"size": 2}, [0, 1], pp=2)
    assert {each.pp for each in small(data, 4, fixed=(SPLIT,)).space.degrees("language", 4)} == {1, 2, 4}


def test_idle_ranks_are_dealt_to_no_module() -> None:
    found = [dict(p.ranks) for p in placements(4, ("a", "b"), {"a": range(1)}, partial_overlap=True, idle=(1,))]
    assert {name: tuple(ranks) for name, ranks in found[0].items()} == {"a": (0,), "b": (2, 3)}
    assert {name: tuple(ranks) for name, ranks in found[-1].items()} == {"a": (0,), "b": (0, 2, 3)}


def test_a_search_leaves_the_idle_ranks_of_the_config_idle() -> None:
    data = _pair({"size": 3, "idle": [1]}, [0, 2])
    parts = small(data, 3)
    for outcome in parts.walk(simulations=6).run().outcomes:
        plan = parts.scorer.plan(outcome.candidate)
        assert plan.placement.idle == (1,)
        assert plan.placement.active == (0, 2)
        assert "world.idle" not in changed_keys(parts.config, Winner(3, outcome.candidate))
    found = small(data, 4).walk(simulations=6).run().outcomes[0]
    config = config_of(parts.config, 4, found.candidate)
    assert config.world.idle == ()
    assert changed_keys(parts.config, Winner(4, found.candidate))["world.idle"] == []


def test_idle_ranks_of_a_world_of_another_size_are_refused() -> None:
    overrides = ("world.idle=[1]", "world.size=3", "modules.vision.layout.ranks=[0, 2]",
                 "modules.language.layout.ranks=[0, 2]")  # fmt: skip
    wish = Wish(world_size=4, simulations=2, steps=1)
    with pytest.raises(InputError, match=r"^world\.idle: got idle ranks of 3 with world_size 4, .*set world\.size=4"):
        find(load_config(PAIR, overrides), overrides, wish)
    assert find(load_config(PAIR, overrides), overrides, replace(wish, world_size=None)).world_size == 3
