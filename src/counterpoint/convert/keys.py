"""What transformers does with the keys of one kind of config.json."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_NONE: Mapping[str, Any] = MappingProxyType({})


class Keys(NamedTuple):
    """The `defaults` of keys that are read here, and the keys that are `without_effect` on what is converted.

    Tests compare the one with transformers' own classes, and flip the other in transformers and see nothing change.
    """

    defaults: Mapping[str, Any] = _NONE
    without_effect: frozenset[str] = frozenset()
