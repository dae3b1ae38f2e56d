"""Random letters of a decoder's pattern: windowed attention layers, among layers with a norm after their sublayers."""

import random
import string
from collections.abc import Mapping
from typing import Any

from counterpoint.plan.activations import PARTS

ATTENTION = "*"
"""The letter of attention with the decoder's own keys."""

_SEES_WINDOWS = 0.35
"""The share of decoders that have layers with windows."""

_WINDOWS = (1, 2, 3, 5, 8)


def draw_letters(module: Mapping[str, Any], variant: Mapping[str, Any], generator: random.Random) -> dict[str, Any]:
    """A decoder's module with the keys of a variant, and with a letter of its own for layers with windows.

    Its own letters take the variant's value of a key where they had the decoder's.
    """
    before = module["model"]
    layers = {letter: _followed(layer, before, variant) for letter, layer in before["layers"].items()}
    model = {**before, **variant, "layers": layers}
    places = [place for place, letter in enumerate(model["pattern"]) if letter == ATTENTION]
    if not places or generator.random() >= _SEES_WINDOWS:
        return {"model": model}
    narrow = set(generator.sample(places, generator.randint(1, len(places))))
    letter = next(letter for letter in string.ascii_uppercase if letter not in {*"ME", *layers})
    model["pattern"] = "".join(letter if place in narrow else one for place, one in enumerate(model["pattern"]))
    model["layers"][letter] = {"kind": "attention", "window": generator.choice(_WINDOWS), **_theta(model, generator)}
    model |= {"post_norm": generator.choice([True, False]), "embedding_scale": generator.choice([1.0, 3.0])}
    return {"model": model, "recompute": _recomputed(module["recompute"], model, letter)}


def _followed(layer: Mapping[str, Any], before: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """A layer with the drawn value of each key where it had the decoder's old one."""
    drawn = {key: value for key, value in variant.items() if key in layer and layer[key] == before[key]}
    return {**layer, **drawn}


def _theta(model: Mapping[str, Any], generator: random.Random) -> dict[str, Any]:
    return {} if model["rope_theta"] is None else {"rope_theta": generator.choice([100.0, model["rope_theta"]])}


def _recomputed(recompute: str | list[str], model: Mapping[str, Any], letter: str) -> str | list[str]:
    """Kinds of layers that are recomputed: the new letter replaces attention's, which may not occur any more."""
    if isinstance(recompute, str) or ATTENTION not in recompute:
        return recompute
    further = "" if model["mtp"] is None else model["mtp"]["pattern"]
    kept = [kind for kind in recompute if kind in model["pattern"] or kind in further or kind in PARTS]
    return [*kept, letter]
