"""What is known of the keys of each kind of config.json, by its `model_type`."""

from collections.abc import Mapping

from counterpoint.convert.decoders import DECODERS
from counterpoint.convert.defaults import DEFAULTS
from counterpoint.convert.keys import Keys
from counterpoint.convert.towers import TOWERS
from counterpoint.convert.without_effect import WITHOUT_EFFECT

KNOWN: Mapping[str, Keys] = {
    **{
        kind: Keys(DEFAULTS.get(kind, {}), WITHOUT_EFFECT.get(kind, frozenset()))
        for kind in DEFAULTS.keys() | WITHOUT_EFFECT.keys()
    },
    **{kind: decoder.keys for kind, decoder in DECODERS.items()},
    **{kind: tower.keys for kind, tower in TOWERS.items()},
}
