"""Random cases of `verify`: a seeded handful always, a long sweep behind a marker."""

from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.case import CaseResult
from counterpoint.verify.command import as_verified, run_case, verify_random
from counterpoint.verify.compare import Difference
from counterpoint.verify.draw import SHARE, candidate, choose
from counterpoint.verify.pool import Pool
from tests.parity.layouts import HYBRID, TINY, TOWERS
from tests.parity.speech import SPEECH

BASES = (TINY, HYBRID, TOWERS, SPEECH)
IDS = ("dense", "hybrid", "graph", "speech")
RANKS = 4
"""Of random cases in every run of the suite; the sweeps take eight."""


OFTEN = {"dense": 6, "hybrid": 6, "graph": 3}
CASES = [pytest.param(base, OFTEN[name], id=name) for base, name in zip(BASES, IDS, strict=True) if name in OFTEN]
CASES += [pytest.param(base, 24, id=f"{name}, more", marks=pytest.mark.more) for base, name in zip(BASES, IDS)]
"""A few cases of most bases in every run of the suite, 24 of each behind the marker."""


@pytest.mark.parametrize(("base_file", "count"), CASES)
def test_random_cases_equal_one_process(pool: Pool, base_file: Path, count: int) -> None:
    base = as_verified(load_config(base_file), "float64")
    outcomes = [run_case(pool, case, "float64") for case in choose(base, count=count, seed=20, world_size=RANKS)]
    assert {o.case.id: o.words for o in outcomes if o.status != "drawn"} == {}


@pytest.mark.parametrize(
    "base_file",
    [pytest.param(b, id=n, marks=pytest.mark.more if n in ("graph", "speech") else ()) for b, n in zip(BASES, IDS)],
)
def test_every_feature_is_drawn_and_nothing_is_refused(base_file: Path) -> None:
    base = as_verified(load_config(base_file), "float64")
    cases = choose(base, count=40, seed=0, world_size=8)
    counts = Counter(feature for case in cases for feature in case.features)
    assert [case.refusal for case in cases if case.refusal] == []
    assert {feature: n for feature, n in counts.items() if n < SHARE * len(cases)} == {}
    assert len(counts) >= 55


def test_a_norm_of_other_depths_goes_with_its_number() -> None:
    """A graph that is drawn without an edge's depths has neither, so that no case is refused for them."""
    keys = ["modules.detail.model.tap_norm=layer", "modules.detail.model.projector.norm_eps=1.0e-5"]
    base = as_verified(load_config(TOWERS, keys), "float64")
    cases = [candidate(base, 3, number, 8) for number in range(40)]
    assert [case.refusal for case in cases if case.refusal is not None and "norm_eps" in case.refusal] == []


def test_a_case_is_a_function_of_seed_and_number() -> None:
    base = as_verified(load_config(TINY), "float64")
    assert candidate(base, 5, 17, 8) == candidate(base, 5, 17, 8)
    assert candidate(base, 5, 17, 8) != candidate(base, 6, 17, 8)


def test_keys_that_are_not_drawn_hold_in_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify CONFIG training.compile=true --random N` compiles all N."""
    compiled: list[bool | str] = []

    def run(_pool: Pool, _task: object, config: Config) -> CaseResult:
        compiled.append(config.training.compile)
        return CaseResult((Difference("loss", "step 0", 0.0),), 1e-9, 0.0)

    monkeypatch.setattr(Pool, "run", run)
    assert verify_random(TINY, ["training.compile=true"], 5, 1, 4, "float64", None, None, Console(quiet=True))
    assert verify_random(TINY, ["training.compile=true"], 1, 1, 4, "float64", 3, None, Console(quiet=True))
    assert compiled == [True] * 6


@pytest.mark.sweep
@pytest.mark.parametrize("base_file", BASES, ids=IDS)
def test_200_random_cases_equal_one_process(base_file: Path) -> None:
    assert verify_random(base_file, (), 200, 11, 8, "float64", None, None, Console())
