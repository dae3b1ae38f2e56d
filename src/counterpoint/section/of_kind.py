"""Sections and names that are chosen among what is registered, whenever that was."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from counterpoint.section.section import Section, UnknownSection

KIND = "kind"

WITHOUT_PLUGINS = "without plug-ins"
"""The context of a validation that imports nothing: sections of kinds that are not known are taken as they stand."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """A constraint on text: it is one of the names that there are when it is read."""

    names: Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self.names())}

    def _check(self, name: str, info: ValidationInfo) -> str:
        if name not in (known := list(self.names())) and info.context != WITHOUT_PLUGINS:
            raise PydanticCustomError("literal_error", "{expected}", {"expected": _either(known)})
        return name


@dataclass(frozen=True, slots=True)
class OfKind:
    """Says of a field that its section is that of the kind which its key `kind` names.

    `sections` are those that there are when it is read, by the names of their kinds; `default` is the kind of a section
    that names none, None where it must.
    """

    sections: Callable[[], Mapping[str, type[Section]]]
    default: str | None = None

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _validated_by(self._validated, self)

    def _validated(self, value: object, info: ValidationInfo) -> Section:
        known = self.sections()
        if isinstance(value, Section):
            return value
        if info.context == WITHOUT_PLUGINS and _names_another(value, known):
            return UnknownSection.model_validate(value)
        if self.default is not None and isinstance(value, Mapping):
            value = {KIND: self.default, **value}
            name = value[KIND]
            if not isinstance(name, str) or name not in known:
                context = {"expected": _either(list(known))}
                error = InitErrorDetails(type="literal_error", loc=(KIND,), input=name, ctx=context)
                raise ValidationError.from_exception_data("a kind", [error])
        return _chooser(tuple(known.items())).validate_python(value, context=info.context)


@dataclass(frozen=True, slots=True)
class OfKey:
    """Says of a field that its section is that of the kind whose name is among its keys, `default` where none is.

    `sections` are those that there are when it is read, by the names of their kinds. Where no plug-in is loaded,
    `unknown` is the section of what the default does not take.
    """

    sections: Callable[[], Mapping[str, type[Section]]]
    default: str
    unknown: type[Section] = UnknownSection

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _validated_by(self._validated, self)

    def _validated(self, value: object, info: ValidationInfo) -> Section:
        if isinstance(value, Section):
            return value
        known, keys = self.sections(), value if isinstance(value, Mapping) else {}
        section = known[next((name for name in known if name in keys), self.default)]
        chooser = _chooser(((section.__name__, section),), section.__name__)
        try:
            return chooser.validate_python(value, context=info.context)
        except ValidationError:
            if info.context != WITHOUT_PLUGINS:
                raise
            return self.unknown.model_validate(value)


@dataclass(frozen=True, slots=True)
class AsRegistered:
    """Says of a field that its section is the one that `section` gives when it is read, whose keys follow from what is
    registered by then."""

    section: Callable[[], type[Section]]

    def sections(self) -> Mapping[str, type[Section]]:
        """The one section, by its name."""
        section = self.section()
        return {section.__name__: section}

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _validated_by(self._validated, self)

    def _validated(self, value: object, info: ValidationInfo) -> Section:
        if isinstance(value, Section):
            return value
        ((name, section),) = self.sections().items()
        return _chooser(((name, section),), name).validate_python(value, context=info.context)


CHOICE = "choice"
"""Key of a core schema's metadata: what says which sections it may be of."""


def _validated_by(
    validated: Callable[[object, ValidationInfo], Section], choice: OfKind | OfKey | AsRegistered
) -> CoreSchema:
    serialization = core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
    return core_schema.with_info_plain_validator_function(
        validated, serialization=serialization, metadata={CHOICE: choice}
    )


def _names_another(value: object, known: Mapping[str, type[Section]]) -> bool:
    """Whether plain data say that they are of a kind which is not known."""
    name = value.get(KIND) if isinstance(value, Mapping) else None
    return isinstance(name, str) and name not in known


@dataclass(frozen=True, slots=True)
class _Tagged:
    """Annotates a section that is one of several by its `tag`, a key or what finds it; errors have the tag in their
    location."""

    sections: tuple[tuple[str, type[Section]], ...]
    tag: str | Callable[[object], str] = KIND

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(section) for name, section in self.sections}
        return core_schema.tagged_union_schema(choices, discriminator=self.tag)


@cache
def _chooser(sections: tuple[tuple[str, type[Section]], ...], only: str | None = None) -> TypeAdapter[Section]:
    """Tells sections apart by their kinds, or takes that of the name `only` whatever is given."""
    return TypeAdapter(Annotated[Section, _Tagged(sections, KIND if only is None else lambda _value: only)])


def _dumped(section: Section, info: SerializationInfo) -> dict[str, Any]:
    return section.model_dump(mode=info.mode, by_alias=bool(info.by_alias))


def _either(names: list[str]) -> str:
    """`'a', 'b' or 'c'`, as pydantic lists literals."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join((*([", ".join(quoted[:-1])] if quoted[:-1] else []), *quoted[-1:]))
