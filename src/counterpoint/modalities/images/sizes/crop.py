"""The shorter side becomes a number of pixels, and the middle is cut out (CLIP's processor, ConvNeXt's below 384)."""

from typing import Literal, final

from counterpoint.modalities.images.sizes.rule import Size, SizeRule, View, whole
from counterpoint.section.section import Count


@final
class CropConfig(SizeRule):
    """The shorter side of a picture is scaled to `edge`, then its middle of `height` x `width` pixels is cut out; what
    of this lies outside of the picture is black. Patches that would be cut at the right and lower edges are left out.
    """

    kind: Literal["crop"]
    edge: Count | None = None
    """Shorter side of a picture after scaling; null: it is not scaled. Unit: pixels."""
    height: Count
    """Height of what is cut out. Unit: pixels."""
    width: Count
    """Width of what is cut out. Unit: pixels."""

    def grid(self, height: int, width: int, patch: int, merge: int) -> Size:
        return whole(self.height, patch, merge), whole(self.width, patch, merge)

    def view(self, height: int, width: int, patch: int, merge: int) -> View:
        scaled = (height, width) if self.edge is None else shorter_to(height, width, self.edge)
        # As transformers cuts and fills up: image_transforms.center_crop.
        return View(scaled, (scaled[0] - self.height) // 2, (scaled[1] - self.width) // 2)

    def refusal(self, height: int, width: int, patch: int, merge: int, most_pixels: int) -> str | None:
        return None if self.edge is None else too_long(height, width, self.edge, most_pixels)

    def most(self, patch: int, merge: int) -> int:
        return whole(self.height, patch, merge) * whole(self.width, patch, merge)

    @property
    def limit(self) -> tuple[str, str]:
        return "resize", f"{self.height} x {self.width} pixels"


def shorter_to(height: int, width: int, edge: int) -> Size:
    """The size at which the shorter side is `edge`: image_transforms.get_resize_output_image_size of transformers."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def too_long(height: int, width: int, edge: int, most_pixels: int) -> str | None:
    """Why a picture is not taken whose shorter side is to be `edge`; None if it is."""
    rows, columns = shorter_to(height, width, edge)
    if rows * columns <= most_pixels:
        return None
    return f"its shorter side scaled to {edge} pixels makes it {rows}x{columns}, more than the {most_pixels} pixels"
