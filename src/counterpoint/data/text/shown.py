"""Values of a dataset in messages."""

SHOWN = 200
"""Most characters of a value in a message."""


def show(value: object) -> str:
    """A value in a message, cut to a line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return "a value that cannot be shown"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
