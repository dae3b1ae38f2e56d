"""What counts as exact: the whole text, among all answers that were written; and the file that keeps them."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.inference.predictions import Evaluation, Prediction, Predictions
from counterpoint.inference.sampling import Sampling

EVALUATED = st.dictionaries(st.text(max_size=3), st.from_type(Predictions), max_size=2)


def test_only_the_whole_text_is_exact() -> None:
    assert Prediction(0, "a cat", "a cat").is_exact
    assert not any(Prediction(0, "a cat", written).is_exact for written in ("a cat.", "a ca", "", "A cat"))


def test_the_share_is_of_what_was_written() -> None:
    rows = tuple(Prediction(number, "yes", written) for number, written in enumerate(("yes", "no", "yes", "yes")))
    assert Predictions(rows, without_target=4, unreadable=2, unfit=1).exact == 0.75
    assert Predictions((), without_target=4).exact == 0.0


def test_answers_draw_by_themselves_and_again_alike() -> None:
    drawn = {
        (seed, key): tuple(Sampling(1.0, seed=seed).generator(key).random(4))
        for seed in (0, 1)
        for key in ((0, 0), (0, 1))
    }
    assert len(set(drawn.values())) == 4
    assert drawn[0, (0, 1)] == tuple(Sampling(1.0).generator((0, 1)).random(4))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.builds(Evaluation, st.integers(0, 9), EVALUATED, st.just({"max_tokens": 3})))
def test_what_is_written_is_read(tmp_path: Path, evaluation: Evaluation) -> None:
    evaluation.write(tmp_path)
    assert Evaluation.read(tmp_path) == evaluation


@pytest.mark.parametrize("more", [{}, {"answer": 1}])
def test_files_of_earlier_versions_are_read(tmp_path: Path, more: dict[str, int]) -> None:
    """Versions before wrote rows, in the first of them without the number of an answer, and sentences."""
    row = {"index": 3, "truth": "a cat", "written": "a dog", **more}
    record = {"step": 20, "splits": {"held": [row]}, "left_out": {"held": "1 without a target"}}
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    found = Predictions((Prediction(3, "a cat", "a dog", more.get("answer", 0)),))
    assert Evaluation.read(tmp_path) == Evaluation(20, {"held": found}, {})
