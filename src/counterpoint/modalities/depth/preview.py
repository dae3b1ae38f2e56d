"""Depth maps for people: near is dark, far is light."""

from collections.abc import Sequence
from typing import cast

from counterpoint.kinds.modality import Extent
from counterpoint.modalities.depth.maps import read_map
from counterpoint.modalities.depth.spec import DepthConfig
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.preview import ImagePreview, joined_patches, with_grid
from counterpoint.modalities.images.spec import LARGEST_LIMIT, ImageIntake
from counterpoint.modalities.preview import Picture, heat

_STEPS = 1000.0


class DepthPreview:
    """Draws depth maps."""

    def stored(self, files: Sequence[bytes], extent: Extent) -> Picture:
        """The map from its nearest distance, or what was not measured, to its farthest."""
        height, width = extent
        (data,) = files
        return heat(read_map(data, (height, width), _STEPS, LARGEST_LIMIT))

    def seen(self, payload: PatchPayload, intake: ImageIntake) -> Picture:
        """The shares of the section's `near` to `far`, with the patches; what was not measured has the mean."""
        depth = cast(DepthConfig, intake.image)
        return with_grid(joined_patches(payload, intake)[0] * depth.std + depth.mean, intake.patch)

    def oddity(self, extent: Extent) -> str | None:
        """As of an image."""
        return ImagePreview().oddity(extent)
