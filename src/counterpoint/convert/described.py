"""A module of a checkpoint, or a layer of it, as its config.json describes it, in the keys of our own sections."""

from typing import Any, TypeVar

from pydantic import ValidationError

from counterpoint.convert.fields import Fields, shown
from counterpoint.errors import CheckpointError
from counterpoint.section.expected import expected_of
from counterpoint.section.of_kind import KIND
from counterpoint.section.section import Section

S = TypeVar("S", bound=Section)


def described(section: type[S], fields: Fields, **keys: Any) -> S:
    """A section with these keys and the defaults of others, as far as `fields` describe it.

    What makes the module's input of files, the keys `image` and `audio`, stands elsewhere and is absent. Raises
    CheckpointError for a value that the section does not take.
    """
    if KIND in section.model_fields:
        (keys[KIND],) = section.model_fields[KIND].annotation.__args__  # type: ignore[union-attr]
    try:
        section.model_validate(keys)
    except ValidationError as error:
        wrong = next((details for details in error.errors() if details["type"] != "missing"), None)
        if wrong is not None:
            key = ".".join(map(str, wrong["loc"]))
            raise CheckpointError(
                f"{fields.where} describes a model with {key}: {shown(wrong['input'])}, but only "
                f"{expected_of(wrong)} can be converted: choose another model."
            ) from error
    return section.model_construct(**keys)
