"""The base of every part of the configuration, and the value types that several parts share."""

import re
from dataclasses import dataclass
from inspect import cleandoc
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from counterpoint.section.described import description_of


class Section(BaseModel):
    """A frozen group of keys: unknown keys, implicit conversions, infinities and NaN are refused."""

    left_out: ClassVar[tuple[str, str] | None] = None
    """What was expected, and the remedy, where a section that has no default is left out."""

    # Most sections are read as parts of others, whose validator has them in it.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, defer_build=True
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The section's JSON Schema, in which each key has its description."""
        made = handler(schema)
        section = handler.resolve_ref_schema(made)
        section["description"] = cleandoc(cls.__doc__ or "")
        for name, field in cls.model_fields.items():
            key = section["properties"][field.alias or name]
            key["description"] = str(description_of(cls, name))
            if field.default_factory is not None:
                key["default"] = field.get_default(call_default_factory=True)
        return made


class UnknownSection(Section):
    """A section of a kind that a plug-in brings, where none is loaded: its keys as they stand, unread."""

    model_config = ConfigDict(extra="allow")


LARGEST_INTEGER = 10**20 - 1

Count = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
"""An integer of at least 1."""

Index = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
"""An integer of at least 0."""

Several = Annotated[int, Field(ge=1, le=10_000)]
"""A number of things that a plan makes one by one."""

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction between 0 and 1."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("text_mismatch", "text without the character NUL")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_without_nul)]


def _written_out(value: object) -> object:
    """The list that a text such as `0-7,16` stands for, up to the most ranks of a world; all else as it is."""
    if not isinstance(value, str) or not _RUNS.fullmatch(value):
        return value
    runs = [(int(first), int(last or first)) for first, _dash, last in (run.partition("-") for run in value.split(","))]
    if any(last < first for first, last in runs) or sum(last - first for first, last in runs) >= MOST_RANKS:
        return value
    return [rank for first, last in runs for rank in range(first, last + 1)]


MOST_RANKS = 100_000
"""Of a world; whoever counts more meant something else."""

_RUNS = re.compile(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*")

# YAML has lists and frozen data has tuples: this one conversion is wanted, entries stay strict.
Ranks = Annotated[
    tuple[Index, ...],
    Field(strict=False),
    BeforeValidator(
        _written_out,
        json_schema_input_type=tuple[Index, ...] | Annotated[str, Field(pattern=f"^{_RUNS.pattern}$")],
    ),
]
Counts = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
Patterns = Annotated[tuple[Text, ...], Field(strict=False)]
"""Shell-style patterns of parameter names."""


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Number = BeforeValidator(_no_truth_value)
"""A constraint on integers that are listed, 1 of which pydantic takes `true` for."""

Precision = Literal["float32", "float64", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Matching:
    """A constraint on text: all of it matches `pattern`, described to the user as `expected`."""

    pattern: str
    expected: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError("text_mismatch", "{expected}", {"expected": self.expected})
        return text
