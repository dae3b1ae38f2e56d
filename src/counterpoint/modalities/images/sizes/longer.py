"""The longer side becomes a number of pixels, with a limit of patches; the aspect is kept."""

import math
from collections.abc import Iterator
from typing import Any, Literal, final

from counterpoint.kinds.modality import Scalar
from counterpoint.modalities.images.sizes.rule import Size, SizeRule
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count


@final
class Longer(SizeRule):
    """The rule of the keys `size` and `max_patches` of a section `image`."""

    kind: Literal["longer"] = "longer"
    size: Count | None
    max_patches: Count

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        return patch_grid(height, width, patch, merge, self.size, self.max_patches)

    def most(self, patch: int, merge: int) -> int:
        return self.max_patches

    def at_most(self, patches: int, patch: int, merge: int) -> "Longer":
        return self.model_copy(update={"max_patches": max(min(self.max_patches, patches), merge**2)})

    def problems(self, where: str, at: str, patch: int, merge: int, remedy: str) -> Iterator[Problem]:
        side = patch * merge
        if self.size is not None and self.size < side:
            expected = f"at least {side}, the side of what {where} makes one row of"
            yield Problem(f"{where}.image.size", f"{self.size} pixels", expected, "raise it or take a smaller patch")
        if self.max_patches < merge**2:
            expected = f"at least {merge**2}, which {where} merges into one row"
            yield Problem(f"{where}.image.max_patches", f"{self.max_patches}", expected, f"raise it or {remedy}")

    @property
    def limit(self) -> tuple[str, str]:
        return "max_patches", f"{self.max_patches}"

    @property
    def keys(self) -> dict[str, Any]:
        return {key: value for key, value in self.identity.items() if value is not None}

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        return {"size": self.size, "max_patches": self.max_patches}


def patch_grid(height: int, width: int, patch: int, merge: int, size: int | None, max_patches: int) -> Size:
    """The patch grid (rows, columns) of an image with its longer side scaled to `size` pixels.

    Both are multiples of `merge`, at least one group, and their product is at most `max_patches`, at about
    the image's aspect; a `size` of None scales nothing. Integer arithmetic only, so that every machine plans
    the same.
    """
    unit, longer = patch * merge, max(height, width)
    size = longer if size is None else size
    rows = max(1, _rounded(height * size, longer * unit))
    columns = max(1, _rounded(width * size, longer * unit))
    most = max_patches // merge**2
    if rows * columns > most:
        rows = min(most, max(1, math.isqrt(most * height // width)))
        columns = min(most // rows, max(1, math.isqrt(most * width // height)))
    return rows * merge, columns * merge


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
