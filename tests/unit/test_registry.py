"""A registry of kinds: its order, its names, and what it says about wrong ones."""

import pytest

from counterpoint.errors import ConfigError
from counterpoint.registry import Registry


def _shapes() -> Registry[int]:
    shapes = Registry("shape", {"square": 4, "triangle": 3})
    shapes.register("line", 2)
    return shapes


def test_kinds_are_found_by_name_in_the_order_of_registration() -> None:
    shapes = _shapes()
    assert list(shapes) == ["square", "triangle", "line"]
    assert list(shapes.items()) == [("square", 4), ("triangle", 3), ("line", 2)]
    assert list(shapes.values()) == [4, 3, 2]
    assert (len(shapes), shapes["line"]) == (3, 2)
    assert "line" in shapes
    assert "circle" not in shapes


def test_a_name_is_registered_once() -> None:
    shapes = _shapes()
    with pytest.raises(ConfigError, match=r"register_shape: got the name 'line', which is taken, expected none of "):
        shapes.register("line", 5)
    assert shapes["line"] == 2


def test_a_hidden_kind_is_found_by_its_name_alone_until_the_name_is_taken() -> None:
    shapes = _shapes()
    shapes.hide("line", 3)
    assert "line" in shapes
    shapes.hide("line", 2)
    assert ("line" in shapes, list(shapes), shapes["line"]) == (False, ["square", "triangle"], 2)
    with pytest.raises(ConfigError, match="expected one of square, triangle; "):
        _ = shapes["lines"]
    shapes.register("line", 5)
    assert (list(shapes), shapes["line"]) == (["square", "triangle", "line"], 5)


@pytest.mark.parametrize("name", ["", "Line", "a line", "line\n"])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^register_shape: got the name .*, expected lowercase letters, digits and _"
    ):
        _shapes().register(name, 5)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("squares", "did you mean square?"), ("octagon", "register it before it is named, or take a known one")],
)
def test_an_unknown_name_is_a_sentence(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = _shapes()[name]
    assert str(caught.value) == f"shape: got '{name}', expected one of square, triangle, line; {remedy}"


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(ConfigError, match="expected a registered name: there is none"):
        _ = Registry[int]("shape")["line"]


def test_what_was_given_is_not_changed() -> None:
    given = {"square": 4}
    Registry("shape", given).register("line", 2)
    assert given == {"square": 4}
