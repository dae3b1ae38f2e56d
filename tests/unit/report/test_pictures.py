"""The drawing parts alone: ticks, charts, words for numbers, escaping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.report.axis import linear_ticks, log_ticks
from counterpoint.report.chart import MOST_POINTS, Line, chart
from counterpoint.report.markup import label, tag
from counterpoint.report.palette import module_colours, tint
from counterpoint.report.words import bytes_text, count_text, number_text
from tests.unit.report.pages import Page

numbers = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(numbers, st.floats(1e-6, 1e9), st.integers(2, 10))
def test_linear_ticks_span_their_range_in_equal_steps(low: float, width: float, count: int) -> None:
    ticks = linear_ticks(low, low + width, count)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else width
    slack = 1e-6 * step + 1e-6 * abs(low)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert 2 <= len(ticks) <= count + 3


@given(st.floats(1e-9, 1e9), st.floats(1, 1e6))
def test_log_ticks_are_powers_of_ten_around_their_range(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert ticks[0] <= low * 1.001
    assert ticks[-1] >= low * ratio * 0.999
    assert len(ticks) >= 2


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=20), st.booleans())
def test_any_points_make_a_chart_or_none(points: list[tuple[int, float]], log: bool) -> None:
    picture = chart([Line("loss", "#123456", tuple((float(x), y) for x, y in points))], "step", "nats", log=log)
    if picture:
        assert "nats" in Page(picture).text
        assert "nan" not in picture
        assert '"inf' not in picture


def test_a_long_line_is_thinned_and_keeps_its_end() -> None:
    points = tuple((float(x), 1.0) for x in range(10 * MOST_POINTS + 3))
    picture = chart([Line("loss", "#123456", points)], "step", "nats")
    (path,) = [part for part in picture.split('"') if part.count(",") > MOST_POINTS // 2]
    assert MOST_POINTS // 2 < len(path.split()) <= MOST_POINTS + 1
    assert (
        path.split()[-1].split(",")[0]
        == chart([Line("l", "#1", points[-1:])], "s", "n").split('points="')[1].split(",")[0]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(1536), "1.5 KiB"),
        (bytes_text(3 * 2**30), "3.0 GiB"),
        (bytes_text(2**41), "2.0 TiB"),
        (count_text(950), "950"),
        (count_text(12_345), "12.3 k"),
        (count_text(1_400_000), "1.4 M"),
        (count_text(30_000_000_000), "30.0 B"),
        (number_text(0.0), "0"),
        (number_text(0.0008), "8e-4"),
        (number_text(1234.5), "1,234"),
        (number_text(0.24683), "0.2468"),
        (number_text(-2.5e7), "-2.5e7"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_text_and_attributes_are_escaped() -> None:
    picture = tag("svg", label(1, 2.0, "<a> & 'b'", class_="x", fill='"'))
    assert picture == '<svg><text x="1" y="2" class="x" fill="&quot;">&lt;a&gt; &amp; &#x27;b&#x27;</text></svg>'


def test_the_order_of_modules_does_not_change_their_colours() -> None:
    one, other = module_colours(["vision", "language"]), module_colours(["language", "vision"])
    assert one == other
    assert list(one) == ["vision", "language"]
    assert len(set(one.values())) == 2


def test_a_tint_goes_to_white() -> None:
    assert tint("#2f6db5", 1.0) == "#2f6db5"
    assert tint("#2f6db5", 0.0) == "#ffffff"
