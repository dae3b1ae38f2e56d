"""Rotary positions as a config.json describes them, today (`rope_parameters`) and before transformers 5."""

from counterpoint.config.models import can_interleave
from counterpoint.convert.fields import Fields
from counterpoint.errors import CheckpointError

_DEFAULT_THETA = 10000.0
_SECTIONS = ("rope_parameters", "rope_scaling")


def theta_of(fields: Fields) -> float:
    """The base of the angles; raises CheckpointError for angles that are scaled or turn a part of a head only."""
    _demand_plain(fields)
    return fields.section("rope_parameters").number("rope_theta", fields.number("rope_theta", _DEFAULT_THETA))


def sections_of(fields: Fields, head_dim: int) -> tuple[int, int, int] | None:
    """How many of a head's pairs turn with time, height and width; None where positions have one coordinate."""
    for key in _SECTIONS:
        section = fields.section(key)
        match section.integers("mrope_section"):
            case ():
                continue
            case (time, height, width) if 2 * (time + height + width) == head_dim:
                return time, height, width
            case other:
                raise CheckpointError(
                    f"{section.where} says mrope_section: {list(other)}, but only three numbers whose sum is half "
                    f"the width of a head, {head_dim}, can be converted: choose another model."
                )
    return None


def interleaved_of(fields: Fields, sections: tuple[int, int, int] | None) -> bool:
    """Whether these sections take turns; raises CheckpointError if there are too many pairs of one for that."""
    is_interleaved = any(fields.section(key).flag("mrope_interleaved", False) for key in _SECTIONS)
    if not is_interleaved or sections is None:
        return False
    if not can_interleave(sections):
        raise CheckpointError(
            f"{fields.where} says mrope_section: {list(sections)}, but where they are interleaved only at most a third "
            "of the pairs for height and for width can be converted: choose another model."
        )
    return True


def _demand_plain(fields: Fields) -> None:
    fields.demand("partial_rotary_factor", 1.0)
    for key in _SECTIONS:
        section = fields.section(key)
        section.demand("rope_type", "default", "mrope")
        section.demand("type", "default", "mrope")
        section.demand("partial_rotary_factor", 1.0)
