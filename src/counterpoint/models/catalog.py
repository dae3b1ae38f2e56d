"""From the sizes of a model to its parts."""

from counterpoint.models.chain import Part
from counterpoint.models.decoder import decoder_parts
from counterpoint.models.vit import vit_parts
from counterpoint.plan.sizes import DecoderSizes, ModelSizes


def model_parts(sizes: ModelSizes) -> list[Part]:
    """The ordered parts of the model that has these sizes."""
    return decoder_parts(sizes) if isinstance(sizes, DecoderSizes) else vit_parts(sizes)
