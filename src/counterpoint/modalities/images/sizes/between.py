"""A range of patches at about the picture's aspect: the resolution of Nemotron-H Omni."""

import math
from collections.abc import Iterator
from typing import Literal, final

from counterpoint.modalities.images.sizes.naflex import most_problems
from counterpoint.modalities.images.sizes.rule import Size, SizeRule
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count


@final
class BetweenConfig(SizeRule):
    """A picture is scaled to whole groups of patches, at about its aspect, with `min_patches` to `max_patches` of them
    (Nemotron-H Omni)."""

    kind: Literal["between"]
    min_patches: Count = 1024
    """Patches to which a smaller picture is enlarged. Unit: patches."""
    max_patches: Count = 13312
    """Patches to which a larger picture is reduced. Unit: patches."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        # Term by term as transformers' nemotron_h_omni get_patch_grid_size, since its rounding decides sizes.
        rows, columns = round(height / patch + 0.5), round(width / patch + 0.5)
        factor = min(math.sqrt(self.max_patches / (rows * columns)), 1.0)
        rows, columns = math.floor(factor * rows), math.floor(factor * columns)
        if self.max_patches > self.min_patches and rows * columns < self.min_patches:
            # A side of no patches, which transformers divides by, is that of a picture that is refused.
            rows, columns = max(rows, 1), max(columns, 1)
            factor = math.sqrt(self.min_patches / (rows * columns))
            rows, columns = math.ceil(factor * rows), math.ceil(factor * columns)
        rows = self._in_groups(rows, columns, merge)
        columns = self._in_groups(columns, rows, merge)
        return max(rows, merge), max(columns, merge)

    def _in_groups(self, side: int, other: int, merge: int) -> int:
        """Whole groups along a side: one more for a remainder if there is room."""
        remainder = side % merge
        if not remainder:
            return side
        up = side + merge - remainder
        return up if up * other <= self.max_patches else max(merge, side - remainder)

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        rows, columns = round(height / patch + 0.5), round(width / patch + 0.5)
        if max(rows, columns) <= self.max_patches * min(rows, columns):
            return None
        return f"its longer side is more than {self.max_patches} times the shorter one"

    def most(self, patch: int, merge: int) -> int:
        return self.max_patches

    def at_most(self, patches: int, patch: int, merge: int) -> "BetweenConfig":
        return self.model_copy(update={"max_patches": max(min(self.max_patches, patches), self.min_patches)})

    def problems(self, where: str, at: str, patch: int, merge: int, remedy: str) -> Iterator[Problem]:
        path = f"{at}.max_patches"
        yield from most_problems(path, where, self.max_patches, merge, remedy)
        if self.max_patches < self.min_patches:
            expected = f"at least min_patches, {self.min_patches}"
            yield Problem(path, f"{self.max_patches}", expected, "raise it or lower min_patches")
