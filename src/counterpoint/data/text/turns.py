"""What a turn of a published record says beside its words: its weight, calls of tools, and the tools themselves."""

import json
from collections.abc import Mapping
from typing import Any

from counterpoint.data.text.shown import show
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError

EXTRAS = ("weight", "tool_calls", "tool_call_id", "name", "reasoning_content")
"""The keys that `turn_extras` reads."""

_TEXTS = ("tool_call_id", "name", "reasoning_content")


def turn_extras(values: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The weight of a turn and its fields, as `Message` has them; keys other than EXTRAS are not looked at.

    Arguments of a call that are written as JSON text become values, which is what templates expect. Raises DataError.
    """
    weight = values.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        raise DataError(f"the weight of a turn is {show(weight)}, expected 0 (no loss on it) or 1; correct it.")
    fields: dict[str, Any] = {}
    for key in (key for key in _TEXTS if values.get(key) is not None):
        if not isinstance(values[key], str):
            raise DataError(f"'{key}' of a turn is {show(values[key])}, expected a text; correct it.")
        check_text(values[key])
        fields[key] = values[key]
    if values.get("tool_calls") is not None:
        calls = values["tool_calls"]
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            raise DataError(f"'tool_calls' of a turn is {show(calls)}, expected a list of objects; correct it.")
        if calls:
            fields["tool_calls"] = [_call(call) for call in calls]
    return int(weight), fields


def read_tools(value: object) -> tuple[dict[str, Any], ...]:
    """The tools of a conversation, a list of schemas or the same as JSON text (empty: none); raises DataError."""
    tools = value
    if isinstance(value, str):
        try:
            tools = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError) as error:
            raise DataError(f"'tools' is no JSON ({error}), expected a list of function schemas; correct it.") from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"'tools' is {show(value)}, expected a list of function schemas; correct it.")
    _check_texts(tools)
    return tuple(tools)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """A call with its arguments as values; raises DataError without a function's name."""
    inner = call.get("function", call)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise DataError(
            f"a call of a tool is {show(call)}, expected {{'type': 'function', 'function': {{'name': text, "
            "'arguments': object or JSON text}}; correct it."
        )
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"the arguments of a call of '{inner['name']}' are no JSON ({error}); correct it."
            ) from None
    if not isinstance(arguments, dict):
        raise DataError(f"the arguments of a call of '{inner['name']}' are {show(arguments)}, expected an object.")
    read = {**inner, "arguments": arguments}
    _check_texts(read)
    return {**call, "function": read} if "function" in call else read


def _check_texts(value: object) -> None:
    """Raise DataError for a text with half of a surrogate pair anywhere in a JSON value."""
    try:
        check_text(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise DataError("tools or calls are nested too deeply; correct the record.") from None
