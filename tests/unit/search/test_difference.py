"""Where two steps differ, kind by kind."""

from counterpoint.search.difference import kinds_of, reasons
from counterpoint.simulate.played import Breakdown

FIRST = Breakdown({"a": 1.0, "b": 2.0}, 3.0, 4.0, 5.0)
SECOND = Breakdown({"b": 12.0, "c": 30.0}, 3.5, 54.0, 65.0)


def test_each_kind_has_what_either_step_spends_on_it() -> None:
    assert [tuple(kind) for kind in kinds_of(FIRST, SECOND)] == [
        ("compute of a", 1.0, 0.0), ("compute of b", 2.0, 12.0), ("compute of c", 0.0, 30.0),
        ("exposed communication", 3.0, 3.5), ("optimizer", 4.0, 54.0), ("idle", 5.0, 65.0),
    ]  # fmt: skip
    assert sum(kind.more for kind in kinds_of(FIRST, SECOND)) == SECOND.seconds - FIRST.seconds


def test_reasons_are_the_largest_down_to_a_tenth_of_the_largest() -> None:
    found = [(kind.name, kind.more) for kind in reasons(FIRST, SECOND)]
    assert found == [("idle", 60.0), ("optimizer", 50.0), ("compute of c", 30.0), ("compute of b", 10.0)]
    assert reasons(SECOND, SECOND) == ()
