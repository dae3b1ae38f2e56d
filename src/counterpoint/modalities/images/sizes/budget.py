"""A range of pixels at about the picture's aspect: the smart resize of Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

import math
from collections.abc import Iterator
from typing import Literal, final

from pydantic import Field

from counterpoint.modalities.images.sizes.rule import Size, SizeRule
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count

_LONGEST = 200
"""Times that the longer side may be as long as the shorter one, as in transformers."""


def left_out(cap: int | None) -> bool:
    """Whether a cap is not said: then the key is not written, and checkpoints from before it go on."""
    return cap is None


def capped(pixels: int, least: int) -> int:
    """A limit of pixels for one picture, but no less than transformers leaves it above the lower limit."""
    return max(pixels, int(least * 1.05))


class PixelRange(SizeRule):
    """Limits of pixels, within which the aspect is about kept."""

    min_pixels: Count = 56 * 56
    """Pixels to which a smaller picture is enlarged. Unit: pixels."""
    max_pixels: Count = 28 * 28 * 1280
    """Pixels to which a larger picture is reduced. Unit: pixels."""

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        if max(height, width) / min(height, width) <= _LONGEST:
            return None
        return f"its longer side is more than {_LONGEST} times the shorter one"

    def limited(self, height: int, width: int, factor: int, near: Size, pixels: int, pictures: int = 1) -> Size:
        """The sides `near` those of `pictures` pictures, in whole groups of `factor` pixels, or others if they come to
        `pixels` pixels outside of the limits."""
        if pixels > self.max_pixels:
            beta = math.sqrt((pictures * height * width) / self.max_pixels)
            rows, columns = (max(factor, math.floor(side / beta / factor) * factor) for side in (height, width))
            return rows, columns
        if pixels < self.min_pixels:
            beta = math.sqrt(self.min_pixels / (pictures * height * width))
            return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
        return near

    def most(self, patch: int, merge: int) -> int:
        return max(self.max_pixels // (patch * merge) ** 2, 1) * merge**2

    def at_most(self, patches: int, patch: int, merge: int) -> "PixelRange":
        most = max(min(self.max_pixels, patches * patch**2), self.min_pixels)
        return self.model_copy(update={"max_pixels": most})

    def problems(self, where: str, at: str, patch: int, merge: int, remedy: str) -> Iterator[Problem]:
        least = (patch * merge) ** 2
        path = f"{at}.max_pixels"
        if self.max_pixels < least:
            expected = f"at least {least}, of which {where} makes one row"
            yield Problem(path, f"{self.max_pixels} pixels", expected, f"raise it or {remedy}")
        if self.max_pixels < self.min_pixels:
            expected = f"at least min_pixels, {self.min_pixels}"
            yield Problem(path, f"{self.max_pixels} pixels", expected, "raise it or lower min_pixels")


@final
class BudgetConfig(PixelRange):
    """A picture is scaled to whole groups of patches, at about its aspect, with `min_pixels` to `max_pixels` pixels.

    One whose longer side is more than 200 times the shorter one is left out. (Qwen2-VL: Wang et al., 2024,
    arXiv:2409.12191.)
    """

    kind: Literal["budget"]
    video_pixels: Count | None = Field(default=None, exclude_if=left_out)
    """Pixels that the groups of pictures of a video share, as many as a patch spans in each, for a rule of videos
    (`cap_pixels_per_frame` of transformers); null: no limit. Unit: pixels."""

    def of(self, pictures: int, frames: int) -> "BudgetConfig":
        if self.video_pixels is None:
            return self
        most = capped(min(self.max_pixels, self.video_pixels * frames // pictures), self.min_pixels)
        return self.model_copy(update={"max_pixels": most})

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        # Term by term as transformers' qwen2_vl smart_resize, since its rounding decides sizes.
        factor = patch * merge
        rows, columns = round(height / factor) * factor, round(width / factor) * factor
        rows, columns = self.limited(height, width, factor, (rows, columns), rows * columns)
        return rows // patch, columns // patch
