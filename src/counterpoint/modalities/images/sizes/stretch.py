"""Every picture gets one size, whatever its aspect (SigLIP's processor, ConvNeXt's from 384)."""

from typing import Literal, final

from counterpoint.modalities.images.sizes.rule import Size, SizeRule, View, whole
from counterpoint.section.section import Count


@final
class StretchConfig(SizeRule):
    """Every picture is scaled to `height` x `width` pixels, whatever its aspect; patches that would be cut at the right
    and lower edges are left out."""

    kind: Literal["stretch"]
    height: Count
    """Height of every picture after scaling. Unit: pixels."""
    width: Count
    """Width of every picture after scaling. Unit: pixels."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        return whole(self.height, patch, merge), whole(self.width, patch, merge)

    def view(self, height: int, width: int, patch: int, merge: int) -> View:
        return View((self.height, self.width))

    def most(self, patch: int, merge: int) -> int:
        return whole(self.height, patch, merge) * whole(self.width, patch, merge)

    @property
    def limit(self) -> tuple[str, str]:
        return "resize", f"{self.height} x {self.width} pixels"
