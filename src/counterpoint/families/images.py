"""What the families of image encoders share."""

from collections.abc import Iterator

from counterpoint.modalities.images.spec import ImageSection
from counterpoint.section.problem import Problem


def image_problems(
    where: str, image: ImageSection, patch: int, merge: int, remedy: str = "lower merge"
) -> Iterator[Problem]:
    """Problems of images that are too small for one output row of `merge` x `merge` patches, for a model at `where`.

    `remedy` says how to reduce the patches of a row.
    """
    yield from image.problems(f"{where}.image")
    for key, rule in image.rules.items():
        yield from rule.problems(where, f"{where}.image.{key}", patch, merge, remedy)


def channel_problems(where: str, image: ImageSection, channels: int) -> Iterator[Problem]:
    """A problem if the images of a model at `where` cannot have `channels` channels."""
    if channels not in image.possible_channels:
        possible = " or ".join(map(str, image.possible_channels))
        expected = f"{possible}, because {where}.image.kind is {image.kind}"
        yield Problem(f"{where}.channels", f"{channels}", expected, "change one of them")
