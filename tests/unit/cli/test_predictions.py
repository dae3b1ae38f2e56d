"""What counts as exact: the whole text, among all answers that were written."""

from counterpoint.inference.predictions import Prediction, Predictions
from counterpoint.inference.sampling import Sampling


def test_only_the_whole_text_is_exact() -> None:
    assert Prediction(0, "a cat", "a cat").is_exact
    assert not any(Prediction(0, "a cat", written).is_exact for written in ("a cat.", "a ca", "", "A cat"))


def test_the_share_is_of_what_was_written() -> None:
    rows = tuple(Prediction(number, "yes", written) for number, written in enumerate(("yes", "no", "yes", "yes")))
    assert Predictions(rows, without_target=4, unreadable=2, unfit=1).exact == 0.75
    assert Predictions((), without_target=4).exact == 0.0
    assert Predictions(rows[:1]).joined(Predictions(rows[1:2])).exact == 0.5


def test_answers_draw_by_themselves_and_again_alike() -> None:
    drawn = {
        (seed, key): tuple(Sampling(1.0, seed=seed).generator(key).random(4))
        for seed in (0, 1)
        for key in ((0, 0), (0, 1))
    }
    assert len(set(drawn.values())) == 4
    assert drawn[0, (0, 1)] == tuple(Sampling(1.0).generator((0, 1)).random(4))
