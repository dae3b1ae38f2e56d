"""Rotary positions as a config.json describes them, in `rope_parameters` or as before transformers 5."""

from typing import Any, final

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.layers.attention.rope import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeScalingSection,
    YarnScaling,
    long_attention,
    yarn_attention,
)

_SECTIONS = ("rope_scaling", "rope_parameters")
_KINDS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_ORIGINAL, _LONGEST = "original_max_position_embeddings", "max_position_embeddings"
_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}


@final
class Rope:
    """The rotary positions of a decoder. Every method raises CheckpointError for what cannot be converted.

    Positions of families with `axes` have a time, a height and a width: the pairs of each where config.json says none.
    """

    def __init__(self, fields: Fields, head_dim: int, axes: tuple[int, int, int] | None, *, interleaved: bool) -> None:
        self._fields, self._pairs, self._axes, self.interleaved = fields, head_dim // 2, axes, interleaved
        scaling, parameters = (fields.section(key) for key in _SECTIONS)
        if scaling.values and parameters.values and scaling.values != parameters.values:
            raise parameters.unlike("these keys", dict(parameters.values), "what rope_scaling says beside it")
        # Both names are of the same section, and transformers takes the older one first.
        self._section = scaling if scaling.values else parameters
        if scaling.values:
            parameters.pass_over(scaling.values)
        names = _KINDS if axes is None else (*_KINDS, "mrope")
        for section in (scaling, parameters):
            demand_whole_heads(section)
            section.demand("type", *names)
            section.demand("rope_type", *names)
        demand_whole_heads(fields)

    @property
    def theta(self) -> float:
        """The base of the angles; the section's value goes before that of the keys around it."""
        # Both are asked for, so that neither counts as unknown.
        places = {place: place.has("rope_theta") for place in (self._section, self._fields)}
        return next((place for place, states in places.items() if states), self._fields).number("rope_theta")

    @property
    def scaling(self) -> RopeScalingSection | None:
        """The scaling of angles for long documents."""
        return scaling_of(self._section, self._fields, self._pairs)

    @property
    def sections(self) -> tuple[int, int, int] | None:
        """Numbers of a head's pairs that rotate by time, height and width; None where positions have one coordinate."""
        if self._axes is None:
            return None
        section, pairs = self._section, self._pairs
        stated = section.integers("mrope_section") if section.has("mrope_section") else self._axes
        if len(stated) != 3 or min(stated) < 0:
            raise section.unlike("mrope_section", list(stated), "three whole numbers from 0")
        if self.interleaved:
            # The key is not read: in these families the axes always alternate, and height and width take every third
            # pair of their own, as far as there are pairs.
            section.has("mrope_interleaved")
            height, width = (min(count, len(range(axis, pairs, 3))) for axis, count in enumerate(stated[1:], start=1))
            return pairs - height - width, height, width
        section.demand("mrope_interleaved", False)
        if sum(stated) != pairs:
            expected = f"three numbers whose sum is half the width of a head, {2 * pairs},"
            raise section.unlike("mrope_section", list(stated), expected)
        return stated[0], stated[1], stated[2]


def demand_whole_heads(section: Fields) -> None:
    """Refuse heads of which a part rotates: transformers' code of these families has no such heads, and ignores the key
    or fails."""
    section.demand("partial_rotary_factor", 1.0, 1)


def scaling_of(section: Fields, around: Fields, pairs: int) -> RopeScalingSection | None:
    """The scaling that a section of rotary positions describes, with keys `around` it, of heads of so many pairs.

    Defaults and which key goes before which are those of transformers' `modeling_rope_utils` and
    `standardize_rope_params`. Raises CheckpointError.
    """
    kinds = [section.text(key) for key in ("rope_type", "type") if section.has(key)]
    match kinds[0] if kinds else "default":
        case "linear":
            return described(LinearScaling, section, factor=_positive(section, "factor"))
        case "dynamic":
            if pairs < 2:
                raise section.unlike("rope_type", "dynamic", "another kind for heads of one pair of columns")
            # It goes by the longest document alone, whatever the original ones were.
            section.has(_ORIGINAL)
            factor, longest = _positive(section, "factor"), around.integer(_LONGEST)
            return described(DynamicScaling, section, factor=factor, original_positions=longest)
        case "yarn":
            return _yarn(section, around)
        case "llama3":
            return _llama3(section, around)
        case "longrope":
            return _long(section, around, pairs)
    return None


def _llama3(section: Fields, around: Fields) -> Llama3Scaling:
    factor, original = _positive(section, "factor"), _original(section, around)
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if not 0 < low < high:
        raise section.unlike("low_freq_factor", low, "a positive number below high_freq_factor")
    return described(
        Llama3Scaling,
        section,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_positions=original,
    )


def _yarn(section: Fields, around: Fields) -> YarnScaling:
    original = _original(section, around)
    factor = _factor(section, around, original)
    # Null and 0 stand for the default.
    fast, slow = (section.number(key, default) or default for key, default in _BETAS.items())
    if not 0 < slow < fast:
        raise section.unlike("beta_slow", slow, "a positive number below beta_fast")
    scales = [section.number(key, 0.0) for key in ("mscale", "mscale_all_dim")]
    if min(scales) < 0:
        raise section.unlike("mscale", min(scales), "no negative number")
    attention = yarn_attention(factor)
    if all(scales):
        attention = yarn_attention(factor, scales[0]) / yarn_attention(factor, scales[1])
    return described(
        YarnScaling,
        section,
        factor=factor,
        original_positions=original,
        beta_fast=fast,
        beta_slow=slow,
        truncate=section.flag("truncate", True),
        attention_factor=_positive(section, "attention_factor", attention),
    )


def _long(section: Fields, around: Fields, pairs: int) -> LongScaling:
    original = _original(section, around)
    if original < 2:
        raise section.unlike(_ORIGINAL, original, "a whole number from 2")
    attention = long_attention(_factor(section, around, original), original)
    short, long = (_factors(section, key, pairs) for key in ("short_factor", "long_factor"))
    return described(
        LongScaling,
        section,
        original_positions=original,
        short_factors=short,
        long_factors=long,
        attention_factor=_positive(section, "attention_factor", attention),
    )


def _original(section: Fields, around: Fields) -> int:
    """The document length that a model was trained on; a key around the section goes before the section's."""
    # Both are asked for, so that neither counts as unknown.
    places = {place: place.has(_ORIGINAL) for place in (around, section)}
    place = next((place for place, states in places.items() if states), None)
    return around.integer(_LONGEST) if place is None else place.integer(_ORIGINAL)


def _factor(section: Fields, around: Fields, original: int) -> float:
    """How many times longer documents become, where none is stated by both lengths."""
    return _positive(section, "factor") if section.has("factor") else around.integer(_LONGEST) / original


def _positive(section: Fields, key: str, default: float | None = None) -> float:
    value = section.number(key, default)
    if value <= 0:
        raise section.unlike(key, value, "a positive number")
    return value


def _factors(section: Fields, key: str, pairs: int) -> tuple[float, ...]:
    """A positive factor for each pair of a head."""
    values: Any = section.numbers(key)
    if len(values) != pairs or min(values) <= 0:
        raise section.unlike(key, list(values), f"{pairs} positive numbers, one for each pair of columns of a head,")
    return tuple(values)
