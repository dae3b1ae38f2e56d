"""How items enter the modules that take some."""

from counterpoint.config.models import (
    ConformerConfig,
    CustomConfig,
    FeaturesConfig,
    ModelConfig,
    VitConfig,
    WhisperConfig,
)
from counterpoint.kinds.modality import Intake, Modality
from counterpoint.modalities.clips.spec import CLIPS, ClipIntake
from counterpoint.modalities.features.spec import FEATURES, FeatureIntake
from counterpoint.modalities.images.spec import IMAGES, ImageIntake


def modality_of(model: ModelConfig) -> Modality | None:
    """What enters a module; None for one that rows of other modules or documents enter."""
    match model:
        case VitConfig() | CustomConfig():
            return IMAGES
        case WhisperConfig() | ConformerConfig():
            return CLIPS
        case FeaturesConfig():
            return FEATURES
        case _:
            return None


def intake_of(name: str, model: ModelConfig, mark: str) -> Intake | None:
    """How items enter a module; None for one that rows of other modules or documents enter."""
    match model:
        case VitConfig():
            return ImageIntake(
                name, model.image, patch=model.patch, merge=model.merge, mark=mark, frames=model.frames,
                prefix=model.prefix, window=model.window or 0,
            )  # fmt: skip
        case CustomConfig():
            return ImageIntake(name, model.image, patch=model.patch, merge=model.merge, mark=mark)
        case WhisperConfig() | ConformerConfig():
            return ClipIntake(
                name, model.mels, model.window, model.stride, model.stack, model.positions,
                seconds=model.audio.whole_seconds, mark=mark, normalised=isinstance(model, ConformerConfig),
            )  # fmt: skip
        case FeaturesConfig():
            return FeatureIntake(name, model.width, mark=mark)
        case _:
            return None
