"""The plan in a terminal: it says what it must, in the columns that there are."""

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from rich.console import Console, RenderableType

from counterpoint import costs
from counterpoint.costs.host import NOT_MEASURED
from counterpoint.errors import InputError
from counterpoint.plan.plan import Plan
from counterpoint.report.estimate_text import sentences
from counterpoint.report.plan_text import describe_plan
from counterpoint.simulate.estimate import estimate
from tests.unit.report.pages import example, sized_plans


def shown(picture: RenderableType, width: int = 100) -> str:
    """What a console of a width prints."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(picture, markup=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_estimate_says_how_long_devices_wait_for_their_hosts() -> None:
    plan, batch = example("pair_1b")
    h200 = replace(costs.load("H200"), host=NOT_MEASURED)
    late, free = (
        "\n".join(sentences(estimate(plan, replace(h200, launch_seconds=seconds), [batch])))
        for seconds in (h200.launch_seconds, 1e-9)
    )
    assert re.search(r"Devices wait up to [0-9.]+ ms of a step for their hosts, which take [0-9.]+ ms to launch", late)
    assert "hosts" not in free


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "synthetic_disjoint",
            ("disjoint, 4 ranks", "dp1: embed, layers.0-1, norm, projector", "vision.0>language.0F"),
        ),
        ("synthetic_colocated", ("colocated, 4 ranks", "dp1 tp1: embed, layers.0-3, norm, head", "dp3: embed")),
        ("language_only", ("single, 2 ranks", "tp1: embed, layers.0-3, norm, head")),
    ],
)
def test_an_example_says_who_is_where_and_what_is_proved(name: str, expected: tuple[str, ...]) -> None:
    plan, batch = example(name)
    text = shown(describe_plan(plan, batch=batch))
    for words in (*expected, "proved:", "no cycle", "bubble", "in flight at most", "peak", "1f1b"):
        assert words in text
    assert ("Links" in text) is (name != "language_only")


def test_memory_says_what_it_is_of() -> None:
    plan, batch = example("language_only")
    alone, with_rows = (" ".join(shown(describe_plan(plan, batch=one)).split()) for one in (None, batch))
    assert "Rows are left out" in alone
    assert "Rows are those of this batch" in with_rows
    for words in ("static", "peak", "with plain torch", "allocator and the context add about", "assumed"):
        assert words in with_rows


def test_one_rank_sees_its_own_part() -> None:
    plan, _batch = example("synthetic_disjoint")
    text = shown(describe_plan(plan, rank=2))
    for words in ("Rank 2 of 4", "language.0", "tp0", "collective[2-3]", "backward", "language.0B1", "language.0R"):
        assert words in text
    assert "vision.0F0" not in text.replace("vision.0>language.0F0", "")


def test_an_idle_rank_says_so() -> None:
    plan, _batch = example("language_only", "world.size=3", "world.idle=[1]", "modules.language.layout.ranks=[0, 2]")
    assert "rank 1 is idle" in shown(describe_plan(plan, rank=1))
    assert "idle" in shown(describe_plan(plan))


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_outside_the_world_is_refused(rank: int) -> None:
    plan, _batch = example("synthetic_disjoint")
    with pytest.raises(InputError, match=f"--rank: got {rank}, expected a rank from 0 to 3"):
        describe_plan(plan, rank=rank)


def test_a_large_world_stays_short() -> None:
    plan, batch = example(
        "pair_1b", "world.size=64", "modules.vision.layout={dp_shard: 32}", "modules.language.layout={pp: 4, tp: 4}",
        "schedule.microbatches=8", "training.global_batch_samples=32",
    )  # fmt: skip
    text = shown(describe_plan(plan, batch=batch))
    assert "pp3 dp0-1 tp0-3: layers.36-47, norm, head" in text
    assert "more ..." in text
    assert len(text.splitlines()) < 110


@settings(max_examples=30)
@given(sized_plans())
def test_any_plan_fits_its_terminal(plan: Plan) -> None:
    for width in (80, 100):
        text = shown(describe_plan(plan), width)
        assert max(len(line) for line in text.splitlines()) <= width
    for module in plan.graph.modules:
        assert module in text
    for rank in plan.placement.active[:2]:
        assert f"Rank {rank} of" in shown(describe_plan(plan, rank=rank))
