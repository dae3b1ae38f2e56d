"""The condition of `--where`: what it chooses, and that nothing but comparisons is taken."""

import pickle
from typing import Any

import pytest

from counterpoint.data.prepare.where import Where
from counterpoint.errors import DataError

ROW: dict[str, Any] = {
    "score": 3, "source": "ai2d", "labels": ["a", "b"], "meta": {"size": {"width": 32}}, "none": None, "flag": True,
}  # fmt: skip
COLUMNS = dict.fromkeys(ROW, "text")


@pytest.mark.parametrize(
    "text",
    [
        "score >= 3", "3 <= score", "2 < score <= 3", "score == 3", "score != 4", "score > -1", "score in (1, 3)",
        "score not in [1, 2]", "source in {'ai2d', 'x'}", "'i2' in source", "'a' in labels", "'c' not in labels",
        "meta.size.width == 32", "none == None", "none is None", "score is not None", "not none > 3", "not none <= 3",
        "flag", "flag == True", "not flag == 1", "score > 5 or source == 'ai2d'", "(score > 5 or flag) and score < 4",
        "meta.other == None", "'a' in none or True == flag",
    ],
)  # fmt: skip
def test_a_condition_holds(text: str) -> None:
    condition = Where(text)
    condition.check(COLUMNS)
    assert condition.holds(ROW)
    assert not Where(f"not ({text})").holds(ROW)
    assert pickle.loads(pickle.dumps(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "score >", "score = 3", "3", "'a'", "f(score)", "score + 1 > 3", "labels[0] == 'a'", "lambda: 1",
        "__import__('os').system('true')", "score if flag else 1", "[x for x in labels]", "(score := 4) > 3",
        "score > b'a'", "score > 1j", "score > ...", "score\nflag", "score; flag", "f'{score}' == '3'", "*labels",
        "(" * 300 + "score" + ")" * 300 + ">", "not " * 5000 + "flag", "score == " + "-" * 3000 + "1", "score > -'a'",
        "score > 1" + " and score > 1" * 2000, "\0", "score > 0x" + "f" * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"--where .*is no condition"):
        Where(text)


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="there is no column 'scores'; did you mean score"):
        Where("scores > 3").check(COLUMNS)


@pytest.mark.parametrize("text", ["source > 3", "labels < 1", "score in meta", "3 in score", "meta > meta"])
def test_values_of_two_kinds_are_not_compared(text: str) -> None:
    with pytest.raises(DataError, match="--where '"):
        Where(text).holds(ROW)
