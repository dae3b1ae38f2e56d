"""Rotary positions as a config.json describes them, in `rope_parameters` or as before transformers 5."""

from typing import final

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.layers.attention.spec import RopeScalingConfig

_SECTIONS = ("rope_scaling", "rope_parameters")


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
        names = ("default", "llama3") if axes is None else ("default", "llama3", "mrope")
        for section in (scaling, parameters):
            section.demand("partial_rotary_factor", 1.0, 1)
            section.demand("type", *names)
            section.demand("rope_type", *names)
        fields.demand("partial_rotary_factor", 1.0, 1)

    @property
    def theta(self) -> float:
        """The base of the angles; the section's value goes before that of the keys around it."""
        # Both are asked for, so that neither counts as unknown.
        places = {place: place.has("rope_theta") for place in (self._section, self._fields)}
        return next((place for place, states in places.items() if states), self._fields).number("rope_theta")

    @property
    def scaling(self) -> RopeScalingConfig | None:
        """The scaling of angles for long documents."""
        section = self._section
        kind = next((section.text(key) for key in ("rope_type", "type") if section.has(key)), "default")
        if kind != "llama3":
            return None
        where = section if section.has("original_max_position_embeddings") else self._fields
        key = "original_max_position_embeddings" if where is section else "max_position_embeddings"
        factor, positions = section.number("factor"), where.integer(key)
        low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
        if not (factor > 0 and 0 < low < high):
            raise section.unlike("low_freq_factor", low, "a positive number below high_freq_factor")
        return described(
            RopeScalingConfig,
            section,
            factor=factor,
            low_freq_factor=low,
            high_freq_factor=high,
            original_positions=positions,
        )

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
