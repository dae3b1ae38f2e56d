"""What held a run back, in words, from fabricated timelines."""

import re

import pytest

from counterpoint import costs
from counterpoint.plan.action import Compute
from counterpoint.plan.plan import Plan
from counterpoint.reference.explain_key import explain_key
from counterpoint.report.explain import explain, waits
from counterpoint.report.run_record import Measured, Timed
from counterpoint.simulate.estimate import Estimate, estimate
from tests.unit.report.pages import example


def measured(plan: Plan, waiting: dict[tuple[int, str], float], slow: int | None = None) -> Measured:
    """Each compute takes a second, of rank `slow` two; before some of them a rank waits."""
    ranks = {}
    for rank, program in plan.schedule.programs.items():
        now, row = 0.0, []
        for action in program:
            ready = now + waiting.get((rank, str(action)), 0.0)
            end = ready + (1.0 + (rank == slow) if isinstance(action, Compute) else 0.0)
            row.append(Timed(action, now, ready, end))
            now = end
        ranks[rank] = tuple(row)
    return Measured(3, ranks)


@pytest.fixture(scope="module")
def plan() -> Plan:
    found, _batch = example("pair_1b")
    return found


def test_ranks_that_wait_for_the_encoder_are_told_to_run_it_first(plan: Plan) -> None:
    found = measured(plan, {(2, "language.0F0"): 6.0, (3, "language.0F0"): 6.0, (2, "language.0F1"): 1.0})
    (wait, *_others) = waits(plan, found)
    assert (str(wait.node), str(wait.source), wait.ranks) == ("language.0", "vision.0", (2, 3))
    assert wait.seconds == 6.5
    assert all(other.seconds > 0 for other in waits(plan, found))
    sentence = explain(plan, found)[0]
    assert sentence.startswith("Ranks 2-3 wait 43% of the step (6.5 s) for rows of vision.0, longest at language.0F0.")
    assert "schedule.encoder=first" in sentence


def test_an_encoder_that_waits_for_gradients_has_too_many_ranks(plan: Plan) -> None:
    sentence = explain(plan, measured(plan, {(rank, "vision.0B0"): 9.0 for rank in (0, 1)}))[0]
    assert sentence.startswith("Ranks 0-1 wait 53% of the step (9 s) for gradients of language.0")
    assert "give it ranks of vision" in sentence


def test_a_pipeline_has_its_bubble() -> None:
    plan, _batch = example("language_only", "world.size=2", "modules.language.layout={ranks: [0, 1], pp: 2}")
    second = next(str(a) for a in plan.schedule.programs[1] if isinstance(a, Compute))
    sentence = explain(plan, measured(plan, {(1, second): 5.0}))[0]
    assert "bubble of the pipeline of language: raise schedule.microbatches" in sentence


def test_a_slow_rank_is_named(plan: Plan) -> None:
    lines = explain(plan, measured(plan, {}, slow=1))
    assert any(line.startswith("Rank 1 computes vision.0 for 16 s, 4 s longer than the median") for line in lines)
    assert explain(plan, measured(plan, {})) == [
        "No wait of step 3 takes 3% of it: its ranks compute nearly all the time."
    ]


def test_what_took_longer_than_predicted_is_named(plan: Plan) -> None:
    predicted, batch = example("pair_1b")
    found: Estimate = estimate(predicted, costs.load("H200"), [batch])
    lines = explain(plan, measured(plan, {}), found)
    assert any("Predicted on H200 (measured)" in line for line in lines)
    assert any(line.startswith("vision.0: backwards take 4 s of a step, predicted ") for line in lines)


def test_remedies_name_keys_that_exist(plan: Plan) -> None:
    lines = [
        *explain(plan, measured(plan, {(2, "language.0F0"): 6.0, (0, "vision.0B0"): 3.0}, slow=1)),
        *explain(*_with_pipeline()),
    ]
    keys = {key for line in lines for key in re.findall(r"\b(?:schedule|data|training|modules)(?:\.\w+)+", line)}
    assert {"schedule.microbatches", "data.balance", "data.packing", "schedule.encoder", "schedule.kind"} <= keys
    for key in keys:
        assert explain_key(key)


def _with_pipeline() -> tuple[Plan, Measured]:
    plan, _batch = example("language_only", "world.size=2", "modules.language.layout={ranks: [0, 1], pp: 2}")
    second = next(str(a) for a in plan.schedule.programs[1] if isinstance(a, Compute))
    return plan, measured(plan, {(1, second): 5.0})
