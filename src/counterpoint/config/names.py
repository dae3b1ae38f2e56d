"""Names that scripts register, by which configs call what they stand for."""

import re
from collections.abc import Collection

from counterpoint.errors import ConfigError


def demand_free_name(caller: str, name: str, taken: Collection[str]) -> None:
    """Raise ConfigError for a name that is taken or is no name."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError(f"{caller}: got the name {name!r}, expected lowercase letters, digits and _; choose another")
    if name in taken:
        raise ConfigError(
            f"{caller}: got the name {name!r}, which is taken, expected none of {sorted(taken)}; choose another"
        )
