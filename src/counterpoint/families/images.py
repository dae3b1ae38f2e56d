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
    side = patch * merge
    if image.size is not None and image.size < side:
        expected = f"at least {side}, the side of what {where} makes one row of"
        yield Problem(f"{where}.image.size", f"{image.size} pixels", expected, "raise it or take a smaller patch")
    if image.max_patches < merge**2:
        expected = f"at least {merge**2}, which {where} merges into one row"
        yield Problem(f"{where}.image.max_patches", f"{image.max_patches}", expected, f"raise it or {remedy}")


def channel_problems(where: str, image: ImageSection, channels: int) -> Iterator[Problem]:
    """A problem if the images of a model at `where` cannot have `channels` channels."""
    if channels not in image.possible_channels:
        possible = " or ".join(map(str, image.possible_channels))
        expected = f"{possible}, because {where}.image.kind is {image.kind}"
        yield Problem(f"{where}.channels", f"{channels}", expected, "change one of them")
