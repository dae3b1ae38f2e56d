"""A range of pixels for all pictures of a video together: the smart resize of Qwen3-VL's videos."""

from typing import Literal, final

from pydantic import Field, PrivateAttr

from counterpoint.modalities.images.sizes.budget import PixelRange, capped, left_out
from counterpoint.modalities.images.sizes.rule import Size
from counterpoint.section.section import Count


@final
class TotalConfig(PixelRange):
    """All pictures of a video together get `min_pixels` to `max_pixels` pixels, each in whole groups of patches, at
    about its aspect (Qwen3-VL).

    A video whose longer side is more than 200 times the shorter one is left out.
    """

    kind: Literal["total"]
    picture_pixels: Count | None = Field(default=None, exclude_if=left_out)
    """Most pixels of one picture of the video, too (`cap_pixels_per_frame` of transformers); null: as many as
    `max_pixels` leaves it. Unit: pixels."""
    _pictures: int = PrivateAttr(default=1)
    _frames: int = PrivateAttr(default=1)

    def of(self, pictures: int, frames: int) -> "TotalConfig":
        rule = self.model_copy()
        if self.picture_pixels is not None:
            most = capped(min(self.picture_pixels, self.max_pixels // pictures), self.min_pixels) * pictures
            rule = self.model_copy(update={"max_pixels": most})
        rule._pictures, rule._frames = pictures, frames
        return rule

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        # Term by term as transformers' qwen3_vl smart_resize of videos, since its rounding decides sizes.
        factor = patch * merge
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        rows, columns = round(height / factor) * factor, round(width / factor) * factor
        # Fewer pictures than a patch spans are repeated.
        times = max(round(self._pictures / self._frames), 1) * self._frames
        pixels = times * rows * columns
        rows, columns = self.limited(height, width, factor, (rows, columns), pixels, self._pictures)
        return max(rows, factor) // patch, max(columns, factor) // patch
