"""Recipes of synthetic documents, in few words."""

from typing import Any

from counterpoint.sources.synthetic.distributions import Constant, Lognormal, Uniform
from counterpoint.sources.synthetic.spec import SyntheticRecipe, recipe_section


def constant(value: int) -> Constant:
    """Always `value`."""
    return Constant(value=value)


def uniform(low: int, high: int) -> Uniform:
    """Every integer from `low` to `high`."""
    return Uniform(low=low, high=high)


def lognormal(median: float, sigma: float, low: int, high: int) -> Lognormal:
    """Around a median, kept between `low` and `high`."""
    return Lognormal(median=median, sigma=sigma, low=low, high=high)


def recipe_of(documents: int, seed: int, text_tokens: Any, **keys: Any) -> SyntheticRecipe:
    """So many documents of a seed, with texts of these lengths."""
    return recipe_section().model_validate({"documents": documents, "seed": seed, "text_tokens": text_tokens, **keys})


def images(number: Any, height: Any, width: Any) -> dict[str, Any]:
    """The keys of so many images of these sizes."""
    return {"images_per_document": number, "image_height": height, "image_width": width}
