"""The shorter side becomes a number of pixels, and nothing is cut out (CLIP's processor without its crop)."""

from typing import Literal, final

from counterpoint.modalities.images.sizes.crop import shorter_to, too_long
from counterpoint.modalities.images.sizes.rule import Size, SizeRule, View, whole
from counterpoint.section.section import Count


@final
class ShortestConfig(SizeRule):
    """The shorter side of a picture is scaled to `edge` pixels; patches that would be cut at the right and lower edges
    are left out."""

    kind: Literal["shortest"]
    edge: Count
    """Shorter side of a picture after scaling. Unit: pixels."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        rows, columns = shorter_to(height, width, self.edge)
        return whole(rows, patch, merge), whole(columns, patch, merge)

    def view(self, height: int, width: int, patch: int, merge: int) -> View:
        return View(shorter_to(height, width, self.edge))

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        return too_long(height, width, self.edge, most_pixels)

    def most(self, patch: int, merge: int) -> int:
        # Photographs are hardly longer.
        return 2 * whole(self.edge, patch, merge) ** 2

    @property
    def limit(self) -> tuple[str, str]:
        return "resize", f"{self.edge} pixels"
