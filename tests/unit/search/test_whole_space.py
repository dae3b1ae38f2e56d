"""A space that is small enough is looked through whole: the winner is that of all plans there are."""

from collections.abc import Iterator
from itertools import product

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import InputError
from counterpoint.plan.plan import Plan
from counterpoint.setup.plan import models_of, plan_of
from counterpoint.simulate.estimate import estimate
from tests.unit.search.worlds import PAIR, Small, small

RANKS = 4
HELD = (
    "modules.*.recompute", "modules.*.layout.reshard", "modules.*.layout.dp_replicate", "modules.*.layout.chunks",
    "modules.*.layout.expert", "modules.vision.layout.pp", "modules.*.layout.cp", "schedule.encoder",
    "schedule.encoder_group", "schedule.buffer", "schedule.run_ahead", "schedule.microbatches",
)  # fmt: skip
OVERRIDES = ("schedule.microbatches=2",)


@pytest.fixture(scope="module")
def pair() -> Small:
    return small(PAIR, RANKS, HELD, OVERRIDES, ("1f1b", "gpipe"))


def _all_plans() -> Iterator[Plan]:
    """Every plan that the rules allow, by degrees and rank lists tried out one by one."""
    places = [(range(RANKS), range(RANKS)), *((range(n), range(n, RANKS)) for n in range(1, RANKS))]
    degrees = (1, 2, 4)
    for (vision, language), tp, pp, own, kind in product(places, degrees, degrees, degrees, ("1f1b", "gpipe")):
        overrides = [
            *OVERRIDES,
            f"world.size={RANKS}",
            f"modules.vision.layout={{ranks: {list(vision)}, tp: {tp}}}",
            f"modules.language.layout={{ranks: {list(language)}, tp: {own}, pp: {pp}}}",
            f"schedule.kind={kind}",
        ]
        try:
            config = load_config(PAIR, overrides)
            yield plan_of(config, models_of(config, None))
        except InputError:
            continue


def test_the_winner_is_the_fastest_of_all_plans(pair: Small) -> None:
    found = pair.walk(simulations=1000).run()
    seconds = [
        estimate(plan, pair.hardware, [plan.batch(0, pair.work.steps[0])], pair.models.execution).seconds
        for plan in _all_plans()
    ]
    assert len(seconds) > 40
    assert len(set(seconds)) > 10
    assert found.counts.is_whole
    assert found.outcomes[0].score.seconds == min(seconds)


def test_what_is_pruned_is_not_better(pair: Small) -> None:
    """The walk with bounds finds what the walk without any finds, and simulates less."""
    pruned = pair.walk(simulations=1000, top=1).run()
    whole = pair.walk(simulations=1000, top=10_000).run()
    assert pruned.outcomes[0] == whole.outcomes[0]
    assert pruned.counts.too_slow > 0 == whole.counts.too_slow


def test_a_search_repeated_finds_the_same(pair: Small) -> None:
    assert pair.walk(simulations=12, top=3).run() == pair.walk(simulations=12, top=3).run()


@pytest.mark.parametrize("simulations", [7, 8, 9])
def test_no_more_is_simulated_than_may_be(pair: Small, simulations: int) -> None:
    assert pair.walk(simulations=simulations, top=3).run().counts.simulated <= simulations


def test_few_simulations_find_nearly_the_same(pair: Small) -> None:
    whole = pair.walk(simulations=1000).run()
    few = pair.walk(simulations=16).run()
    assert not few.counts.is_whole
    assert few.counts.simulated <= 16
    assert few.outcomes[0].score.seconds <= 1.05 * whole.outcomes[0].score.seconds
