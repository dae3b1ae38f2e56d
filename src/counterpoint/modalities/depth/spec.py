"""Depth maps: images with one number per pixel, its distance, and the modality itself."""

from collections.abc import Iterator
from random import Random
from typing import Any, ClassVar, Literal

from counterpoint.kinds.modality import Drawing, Form, ItemSection, Modality, Small
from counterpoint.modalities.images.spec import MOST_PIXELS, ImageSection, PixelLimit
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, NonNegative, Positive


class DepthConfig(ImageSection):
    """How a depth map becomes patches of one channel.

    Scaling takes the nearest pixel, and so mixes no two distances. Where nothing was measured (0 in the file) the input
    is 0.
    """

    possible_channels: ClassVar[tuple[int, ...]] = (1,)

    kind: Literal["depth"]
    max_patches: Count
    near: NonNegative = 0.0
    """Distance that becomes 0; nearer ones do, too. Unit: metres."""
    far: Positive = 10.0
    """Distance that becomes 1; farther ones do, too. Unit: metres."""
    mean: float = 0.5
    """Subtracted of distances scaled to 0 to 1. No unit."""
    std: Positive = 0.5
    """Divides what is left. No unit."""
    per_metre: Positive = 1000.0
    """Steps of a PNG's values to the metre: 1000 where they are millimetres. Unit: steps per metre."""
    max_pixels: PixelLimit = MOST_PIXELS
    """Pixels above which a map is not decoded but treated as unreadable. Unit: pixels."""

    @property
    def most_pixels(self) -> int:
        return self.max_pixels

    def problems(self, where: str) -> Iterator[Problem]:
        if self.near >= self.far:
            expected = f"less than {where}.far, {self.far:g}"
            yield Problem(f"{where}.near", f"{self.near:g}", expected, "lower it or raise far")


def _small(generator: Random, small: Small) -> dict[str, Any]:
    return {
        "depth_per_document": {"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2])},
        "depth_height": small.side,
        "depth_width": small.side,
        "without_depth": small.without,
    }


DEPTH = Modality(
    name="depth",
    plural="depth maps",
    read_by="a vit whose image.kind is depth",
    columns=("height", "width"),
    counts=("depth_maps",),
    forms=(Form(key="depth", mark="<depth>", name="depth map", file="depth map"),),
    drawing=Drawing(
        number="depth_per_document",
        without="without_depth",
        sizes={"depth_height": 224, "depth_width": 224},
        stream=2**32 + 6,
        module_stream=2**32 + 7,
        small=_small,
        described={
            "depth_height": "Height of a depth map, before it is scaled. Unit: pixels.",
            "depth_width": "Width of a depth map, before it is scaled. Unit: pixels.",
        },
    ),
    section=ItemSection(key="image", section=DepthConfig, small={"size": None, "max_patches": 16}),
    size="counterpoint.modalities.depth.maps:map_size",
    rows="counterpoint.modalities.depth.rows:depth_rows",
    alone="counterpoint.modalities.images.alone:image_alone",
    preview="counterpoint.modalities.depth.preview:DepthPreview",
)
