"""How items become rows in the modules that take them, whatever their kind."""

from collections.abc import Mapping

from counterpoint.data.clips import ClipSettings
from counterpoint.data.features import FeatureSettings
from counterpoint.data.images import ItemSettings

Taker = ItemSettings | ClipSettings | FeatureSettings
"""How one module takes items."""

Settings = Mapping[str, Taker]
"""How items enter the modules that take them, by module name."""
