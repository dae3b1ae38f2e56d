"""Every key of every kind says what it means and in which unit it is."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from counterpoint.config.keys import sections_of
from counterpoint.config.schema import Config
from counterpoint.section.described import Description, description_of
from counterpoint.section.section import Count, Section

REMEDY = "write a string under the field; that of a number ends in `Unit: tokens.` or `No unit.`"


def sections(section: type[Section] = Config, seen: set[type[Section]] | None = None) -> Iterator[type[Section]]:
    """A section and all below it, once each."""
    seen = set() if seen is None else seen
    if section not in seen:
        seen.add(section)
        yield section
        for field in section.model_fields.values():
            for below in sections_of(field):
                yield from sections(below, seen)


def mentions_numbers(annotation: Any) -> bool:
    """Whether values of a type are numbers, or lists or mappings of numbers."""
    if get_origin(annotation) is dict:
        return mentions_numbers(get_args(annotation)[1])
    return annotation in (int, float) or any(mentions_numbers(argument) for argument in get_args(annotation))


def lacking(section: type[Section]) -> Iterator[str]:
    """The keys of a section without a description, or without a word on the unit."""
    for name, field in section.model_fields.items():
        description = description_of(section, name)
        if not description.text.endswith("."):
            yield f"{section.__name__}.{name} has no description"
        elif description.unit is None and is_number(field):
            yield f"{section.__name__}.{name} has no unit"


def is_number(field: FieldInfo) -> bool:
    """Whether a key's value is a number and no name or section."""
    return not sections_of(field) and mentions_numbers(field.annotation)


@pytest.mark.parametrize("section", [*sections()], ids=lambda section: section.__name__)
def test_every_key_is_described(section: type[Section]) -> None:
    assert list(lacking(section)) == [], REMEDY


class Described(Section):
    """Keys that say all, and keys that do not."""

    steps: Count
    """Steps of
    something. Unit: steps."""
    scale: float = 1.0
    """Factor on something. No unit."""
    name: str
    """Name of something."""
    width: Count
    """Width of something."""
    silent: bool
    given: Count = Field(description="Given at once. Unit: rows.")


class Further(Described):
    """Keys of a base, one of which means something else here."""

    scale: float = 2.0
    name: str = "x"
    """Another name."""


def test_what_lacks_a_description_or_a_unit_is_seen() -> None:
    assert list(lacking(Described)) == ["Described.width has no unit", "Described.silent has no description"]


def test_descriptions_are_read_from_the_nearest_class_that_has_one() -> None:
    assert description_of(Described, "steps") == Description("Steps of something.", "steps")
    assert description_of(Described, "given") == Description("Given at once.", "rows")
    assert description_of(Further, "scale") == Description("Factor on something.", "")
    assert description_of(Further, "name") == Description("Another name.")
    assert str(description_of(Further, "steps")) == "Steps of something. Unit: steps."
    assert str(description_of(Further, "scale")) == "Factor on something."


def test_a_class_in_a_function_is_described() -> None:
    class Inner(Section):
        key: str
        """Name."""

    assert description_of(Inner, "key") == Description("Name.")
