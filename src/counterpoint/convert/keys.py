"""What transformers does with the keys of one kind of config.json."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Values = Mapping[str, Any]
"""Keys of a config.json with their values."""

_NONE: Values = MappingProxyType({})


class Keys(NamedTuple):
    """What `defaults.json` has of a kind, and the keys that are `without_effect` on what is converted.

    `defaults` are those of keys that are left out, null where they follow from other keys. For each section,
    `absent` has the values of one that is left out altogether, None if there is then no such section, and `empty` the
    defaults that hold below it in place of its own kind's.
    """

    defaults: Values = _NONE
    without_effect: frozenset[str] = frozenset()
    absent: Mapping[str, Values | None] = _NONE
    empty: Mapping[str, Values] = _NONE
