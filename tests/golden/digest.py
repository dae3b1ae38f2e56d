"""Values as JSON holds them: short ones as they are, long ones as a hash and a length, floats by their bits."""

import hashlib
import json
from typing import Any

_LONGEST = 200
"""Characters of a value that is kept as it is."""

_DIGITS = 16


def digest(text: str | bytes) -> str:
    """A hash of some text or bytes."""
    data = text if isinstance(text, bytes) else text.encode()
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def bits(value: float | None) -> str:
    """All bits of a float."""
    return "none" if value is None else float(value).hex()


def short(value: Any) -> Any:
    """Plain data, or its hash and length where it is long."""
    text = json.dumps(_exact(value))
    return json.loads(text) if len(text) <= _LONGEST else f"sha256 {digest(text)} of {len(text)} characters"


def _exact(value: Any) -> Any:
    """Plain data of strings, integers and booleans alone; keys keep their order."""
    match value:
        case float():
            return bits(value)
        case dict():
            return {str(key): _exact(one) for key, one in value.items()}
        case list() | tuple():
            return [_exact(one) for one in value]
        case frozenset() | set():
            return sorted(map(str, value))
        case _:
            return value
