"""As many patches as there may be at about the picture's aspect: the NaFlex of SigLIP 2."""

import math
from collections.abc import Iterator
from typing import Literal, final

from counterpoint.modalities.images.sizes.rule import Size, SizeRule
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count

_CLOSE = 1e-5
_LARGEST = 100.0
"""Where the search for a scale ends, and the largest scale, as in transformers."""


@final
class NaflexConfig(SizeRule):
    """A picture is scaled to whole patches, at about its aspect, as large as `max_patches` allow (SigLIP 2: Tschannen
    et al., 2025, arXiv:2502.14786)."""

    kind: Literal["naflex"]
    max_patches: Count = 256
    """Most patches of a picture. Unit: patches."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        # Step by step as transformers' siglip2 get_image_size_for_max_num_patches, whose search decides sizes.
        unit, most = patch * merge, self.max_patches / merge**2
        low, high = _CLOSE / 10, _LARGEST
        while (high - low) >= _CLOSE:
            scale = (low + high) / 2
            if _units(scale, height, unit) * _units(scale, width, unit) <= most:
                low = scale
            else:
                high = scale
        return _units(low, height, unit) * merge, _units(low, width, unit) * merge

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        # The search has a smallest scale.
        rows, columns = self.grid(height, width, patch, merge)
        return None if rows * columns <= self.max_patches else f"no scale makes it {self.max_patches} patches"

    def most(self, patch: int, merge: int) -> int:
        return self.max_patches

    def at_most(self, patches: int, patch: int, merge: int) -> "NaflexConfig":
        return self.model_copy(update={"max_patches": min(self.max_patches, patches)})

    def problems(self, where: str, at: str, patch: int, merge: int, remedy: str) -> Iterator[Problem]:
        yield from most_problems(f"{at}.max_patches", where, self.max_patches, merge, remedy)


def most_problems(path: str, where: str, most: int, merge: int, remedy: str) -> Iterator[Problem]:
    """A problem of a limit of patches that is smaller than one row of a model at `where`."""
    if most < merge**2:
        expected = f"at least {merge**2}, which {where} merges into one row"
        yield Problem(path, f"{most}", expected, f"raise it or {remedy}")


def _units(scale: float, side: int, unit: int) -> int:
    return max(1, math.ceil(side * scale / unit))
