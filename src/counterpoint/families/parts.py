"""From a model to its parts: the only place that imports the torch code of families."""

from counterpoint.families import family_of
from counterpoint.kinds.family import Model
from counterpoint.kinds.named import named
from counterpoint.models.chain import Part


def parts_of(model: Model) -> list[Part]:
    """The ordered parts of a model."""
    parts: list[Part] = named(family_of(model.section).parts)(model.section, model.ends)
    return parts
