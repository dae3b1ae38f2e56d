"""What families whose rows are patches of images have in common."""

from collections.abc import Iterator

from counterpoint.modalities.images.spec import ImageSection
from counterpoint.section.problem import Problem


def image_problems(where: str, image: ImageSection, patch: int, merge: int) -> Iterator[Problem]:
    """Images that a model at `where` cannot cut into patches."""
    yield from image.problems(f"{where}.image")
    side = patch * merge
    if image.size is not None and image.size < side:
        expected = f"at least {side}, the patch x merge of {where}"
        yield Problem(f"{where}.image.size", f"{image.size} pixels", expected, "raise it or take a smaller patch")
    if image.max_patches < merge**2:
        expected = f"at least {merge**2}, one merged group of {where}"
        yield Problem(f"{where}.image.max_patches", f"{image.max_patches}", expected, "raise it or lower merge")
