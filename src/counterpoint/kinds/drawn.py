"""What `verify --random` gives the keys of a kind's section."""

from collections.abc import Callable
from random import Random
from typing import Any

Drawn = Callable[[Random], dict[str, Any]]
"""Makes random values of some keys of a section; the others keep theirs."""


def nothing_drawn(_generator: Random) -> dict[str, Any]:
    """No values."""
    return {}
