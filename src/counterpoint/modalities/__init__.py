"""Kinds of item, each in a folder of its own: a `spec` without torch, and the content that it names, with torch."""

from collections.abc import Mapping
from typing import Annotated

from counterpoint.kinds.modality import Modality
from counterpoint.modalities.clips.spec import CLIPS
from counterpoint.modalities.depth.spec import DEPTH
from counterpoint.modalities.features.spec import FEATURES
from counterpoint.modalities.images.spec import IMAGES, ImageSection
from counterpoint.registry import Registry
from counterpoint.section.of_kind import OfKind
from counterpoint.section.section import Section

MODALITIES: Registry[Modality] = Registry("modality", {kind.name: kind for kind in (IMAGES, CLIPS, FEATURES, DEPTH)})
"""By what the index calls their items."""


def _of_images() -> Mapping[str, type[Section]]:
    """The sections of all modalities whose items are images, as alternatives to that of pictures."""
    sections = {name: kind.section for name, kind in MODALITIES.items()}
    return {name: one.section for name, one in sections.items() if one is not None and one.key == IMAGES.name}


AnyImage = Annotated[ImageSection, OfKind(_of_images, default=IMAGES.name)]
"""How images of any registered kind become patches; pictures, where none is named."""
