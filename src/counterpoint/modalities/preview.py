"""Items as pictures for people: as they are stored, and as a module sees them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from counterpoint.kinds.arrays import Floats
from counterpoint.kinds.modality import Extent
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES

Picture = NDArray[np.uint8]
"""Pixels (height, width, 3)."""

LONGER_SIDE = 384
"""Pixels of the longer side of what is drawn, about."""

MOST_FRAMES = 8
"""Pictures of a video that are drawn."""

_GAP = 4


class Preview(Protocol):
    """Draws the items of one modality."""

    def stored(self, files: Sequence[bytes], extent: Extent) -> Picture:
        """The encoded files of an item, each decoded whole; raises DataError for one that cannot be."""

    def seen(self, payload: Any, intake: Any) -> Picture:
        """What a module reads of an item, as its intake made it."""

    def oddity(self, extent: Extent) -> str | None:
        """What is odd about an item of this size, None if nothing is."""


def preview_of(kind: str) -> Preview | None:
    """What draws items of a kind, None for a modality without it."""
    place = MODALITIES[kind].preview
    if place is None:
        return None
    preview: Preview = named(place)()
    return preview


def fitted(height: int, width: int) -> tuple[int, int]:
    """A size of the same aspect whose longer side is LONGER_SIDE, or less where the size is smaller."""
    longer = max(height, width, LONGER_SIDE)
    return max(1, height * LONGER_SIDE // longer), max(1, width * LONGER_SIDE // longer)


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures in a row, on white."""
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(one, ((0, height - len(one)), (0, _GAP), (0, 0)), constant_values=255) for one in pictures]
    return np.concatenate(padded, axis=1)[:, :-_GAP]


def heat(values: Floats) -> Picture:
    """Numbers (rows, columns) as greys, the smallest black and the largest white, scaled to LONGER_SIDE or less."""
    low, high = float(values.min()), float(values.max())
    shares = (values.astype(np.float64) - low) / (high - low if high > low else 1.0)
    greys = Image.fromarray((255 * shares).round().astype(np.uint8))
    height, width = fitted(*values.shape)
    return np.asarray(greys.resize((width, height), Image.Resampling.BOX).convert("RGB"))
