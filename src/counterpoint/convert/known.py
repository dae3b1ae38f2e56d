"""What is known of the keys of each kind of config.json, by its `model_type`."""

from collections.abc import Mapping

from counterpoint.convert.decoders import DECODERS
from counterpoint.convert.defaults import read_defaults
from counterpoint.convert.keys import Keys
from counterpoint.convert.towers import TOWERS
from counterpoint.convert.without_effect import WITHOUT_EFFECT


def known_keys() -> Mapping[str, Keys]:
    """All kinds that transformers' defaults are known of."""
    table = read_defaults()
    without_effect = {
        **WITHOUT_EFFECT,
        **{kind: decoder.without_effect for kind, decoder in DECODERS.items()},
        **{kind: tower.without_effect for kind, tower in TOWERS.items()},
    }
    return {
        kind: Keys(
            defaults=values,
            without_effect=without_effect.get(kind, frozenset()),
            absent={key: section["absent"] for key, section in table.sections.get(kind, {}).items()},
            empty={key: section["empty"] for key, section in table.sections.get(kind, {}).items()},
        )
        for kind, values in table.models.items()
    }
