"""The config as JSON Schema (draft 2020-12), with the kinds that are registered when it is made."""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from counterpoint.config.schema import Config
from counterpoint.section.of_kind import CHOICE, KIND, AsRegistered, OfKey, OfKind

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """What a config may look like, as far as single sections can say: every key with its description, type, bounds and
    default; sections of a kind are chosen by their key `kind`."""
    schema = Config.model_json_schema(by_alias=True, schema_generator=_Generator)
    return {"$schema": DIALECT, **schema, "title": "counterpoint config"}


class _Generator(GenerateJsonSchema):
    """pydantic's generator, without titles made of names, and with mappings and tagged unions as strict as loading."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        return _by_kind({str(kind): self.generate_inner(choice) for kind, choice in schema["choices"].items()})

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        choice: OfKind | OfKey | AsRegistered = schema["metadata"][CHOICE]
        sections = choice.sections()
        known = {name: self.generate_inner(section.__pydantic_core_schema__) for name, section in sections.items()}
        match choice:
            case OfKind(default=default):
                return _by_kind(known, default)
            case OfKey(default=default):
                return _by_key(known, default)
            case AsRegistered():
                (only,) = known.values()
                return only

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        values, names = self.generate_inner(schema["values_schema"]), self.generate_inner(schema["keys_schema"])
        made: JsonSchemaValue = {"type": "object", "propertyNames": names, "additionalProperties": values}
        return made if "min_length" not in schema else {**made, "minProperties": schema["min_length"]}


def _by_kind(known: Mapping[str, JsonSchemaValue], default: str | None = None) -> JsonSchemaValue:
    """A section whose key `kind` names one of the `known`; without that key it is of the kind `default`."""
    chosen: list[JsonSchemaValue] = []
    for schema, kinds in _kinds_of(known):
        is_of_it: JsonSchemaValue = {"properties": {KIND: {"enum": kinds}}}
        chosen.append({"if": is_of_it if default in kinds else {**is_of_it, "required": [KIND]}, "then": schema})
    required: JsonSchemaValue = {"required": [KIND]} if default is None else {}
    return {"type": "object", "properties": {KIND: {"enum": list(known)}}, **required, "allOf": chosen}


def _by_key(known: Mapping[str, JsonSchemaValue], default: str) -> JsonSchemaValue:
    """A section that has the name of one of the `known` among its keys, or else is the one called `default`."""
    chosen = known[default]
    for name in reversed([name for name in known if name != default]):
        chosen = {"if": {"type": "object", "required": [name]}, "then": known[name], "else": chosen}
    return chosen


def _kinds_of(known: Mapping[str, JsonSchemaValue]) -> list[tuple[JsonSchemaValue, list[str]]]:
    """Each schema once, with the kinds that share it."""
    found: list[tuple[JsonSchemaValue, list[str]]] = []
    for kind, schema in known.items():
        same = next((kinds for other, kinds in found if other == schema), None)
        if same is None:
            found.append((schema, [kind]))
        else:
            same.append(kind)
    return found
