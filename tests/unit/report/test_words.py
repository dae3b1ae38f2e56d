"""Numbers as reports write them."""

import pytest

from counterpoint.report.words import seconds_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2414.2, "2,414 s"), (123456.0, "123,456 s"), (999.96, "1,000 s"), (1.0, "1 s"), (0.99996, "1 s"),
        (0.9996, "999.6 ms"), (0.01234, "12.34 ms"), (0.00099999, "1 ms"), (4.2e-5, "42 us"), (0.0, "0 s"),
    ],
)  # fmt: skip
def test_seconds_have_one_form_whatever_their_size(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
