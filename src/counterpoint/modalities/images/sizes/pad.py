"""A picture in the middle of a square, which becomes one of a fixed side (LLaVA's `image_aspect_ratio: pad`)."""

from typing import Annotated, Literal, final

from pydantic import Field

from counterpoint.modalities.images.sizes.rule import Size, SizeRule, View, whole
from counterpoint.section.section import Count, Number

Level = Annotated[int, Field(ge=0, le=255), Number]


@final
class PadConfig(SizeRule):
    """A picture is put into the middle of a square of one colour, which is scaled to `side` pixels; patches that would
    be cut at the right and lower edges are left out."""

    kind: Literal["pad"]
    side: Count
    """Side of the square after scaling. Unit: pixels."""
    colour: Annotated[tuple[Level, Level, Level], Field(strict=False)] = (0, 0, 0)
    """Red, green and blue of what is around a picture, from 0 to 255. No unit."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        return whole(self.side, patch, merge), whole(self.side, patch, merge)

    def view(self, height: int, width: int, patch: int, merge: int) -> View:
        return View((self.side, self.side), around=self.colour)

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        side = max(height, width)
        if side**2 <= most_pixels:
            return None
        return f"in a square it has {side}x{side} pixels, more than the {most_pixels}"

    def most(self, patch: int, merge: int) -> int:
        return whole(self.side, patch, merge) ** 2

    @property
    def limit(self) -> tuple[str, str]:
        return "resize", f"{self.side} pixels"

    @property
    def squares(self) -> bool:
        return True
