"""From the sizes of a model to its parts."""

from counterpoint.models.adapter import adapter_parts
from counterpoint.models.chain import Part
from counterpoint.models.conformer import conformer_parts
from counterpoint.models.custom import custom_parts
from counterpoint.models.decoder import decoder_parts
from counterpoint.models.features import features_parts
from counterpoint.models.vit import vit_parts
from counterpoint.models.whisper import whisper_parts
from counterpoint.plan.sizes import (
    AdapterSizes,
    ConformerSizes,
    CustomSizes,
    DecoderSizes,
    FeaturesSizes,
    ModelSizes,
    VitSizes,
    WhisperSizes,
)


def model_parts(sizes: ModelSizes) -> list[Part]:
    """The ordered parts of the model that has these sizes."""
    match sizes:
        case DecoderSizes():
            return decoder_parts(sizes)
        case VitSizes():
            return vit_parts(sizes)
        case CustomSizes():
            return custom_parts(sizes)
        case FeaturesSizes():
            return features_parts(sizes)
        case AdapterSizes():
            return adapter_parts(sizes)
        case WhisperSizes():
            return whisper_parts(sizes)
        case ConformerSizes():
            return conformer_parts(sizes)
