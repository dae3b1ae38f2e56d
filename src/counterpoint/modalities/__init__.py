"""Kinds of item, each in a folder of its own: a `spec`, and the content that it names, which knows torch."""

from counterpoint.kinds.modality import Modality
from counterpoint.modalities.clips.spec import CLIPS
from counterpoint.modalities.features.spec import FEATURES
from counterpoint.modalities.images.spec import IMAGES
from counterpoint.registry import Registry

MODALITIES: Registry[Modality] = Registry("modality", {kind.name: kind for kind in (IMAGES, CLIPS, FEATURES)})
"""By what the index calls their items."""
