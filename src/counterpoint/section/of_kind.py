"""Sections and names that are chosen among what is registered, whenever that was."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import AfterValidator, GetCoreSchemaHandler, SerializationInfo, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from counterpoint.section.section import Section

_KIND = "kind"


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """A constraint on text: it is one of the names that there are when it is read."""

    def check(name: str) -> str:
        if name not in (known := list(names())):
            raise PydanticCustomError("literal_error", "{expected}", {"expected": _either(known)})
        return name

    return AfterValidator(check)


@dataclass(frozen=True, slots=True)
class OfKind:
    """Says of a field that its section is that of the kind which its key `kind` names, `default` where it is left out.

    `sections` are those that there are when it is read, by the names of their kinds.
    """

    sections: Callable[[], Mapping[str, type[Section]]]
    default: str

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validated, serialization=core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
        )

    def _validated(self, value: object) -> Section:
        known = self.sections()
        if isinstance(value, Section):
            return value
        name = value.get(_KIND, self.default) if isinstance(value, Mapping) else self.default
        if isinstance(name, str) and name in known:
            return known[name].model_validate(value)
        error = InitErrorDetails(
            type="literal_error", loc=(_KIND,), input=name, ctx={"expected": _either(list(known))}
        )  # fmt: skip
        raise ValidationError.from_exception_data("a kind", [error])


def _dumped(section: Section, info: SerializationInfo) -> dict[str, Any]:
    return section.model_dump(mode=info.mode, by_alias=bool(info.by_alias))


def _either(names: list[str]) -> str:
    """`'a', 'b' or 'c'`, as pydantic lists literals."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join((*([", ".join(quoted[:-1])] if quoted[:-1] else []), *quoted[-1:]))
