"""What a section takes in the place of a wrong value, in words."""

from pydantic_core import ErrorDetails

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of names to sections",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "int_type": "an integer",
    "invalid_key": "text as a key",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "literal_error": "{expected}",
    "model_attributes_type": "a section of keys",
    "model_type": "a section of keys",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_long": "{max_length} or fewer entries",
    "too_short": "{min_length} or more entries",
    "tuple_type": "a list",
    "union_tag_invalid": "one of {expected_tags}",
}
"""What was expected, by pydantic's error type, filled from the error's context."""


def expected_of(details: ErrorDetails) -> str:
    """What was expected where pydantic found an error."""
    template = _EXPECTED.get(details["type"])
    if template is None:
        return details["msg"].removeprefix("Input should be ")
    return template.format(**details.get("ctx", {})).replace("'", '"')
