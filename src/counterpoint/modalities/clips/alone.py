"""One clip alone, for the reference of verify: written apart from how clips are laid beside others."""

import torch

from counterpoint.modalities.alone import Alone
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.clips.windows import ClipPayload
from counterpoint.models.batch import AudioBatch
from counterpoint.models.segments import Segments


def clip_alone(payload: ClipPayload, intake: ClipIntake, dtype: torch.dtype) -> Alone:
    """A clip from its first position on."""
    rows = len(payload.frames)
    frames, filled = torch.tensor(payload.frames, dtype=dtype), torch.tensor(payload.filled)
    batch = AudioBatch(frames, filled, torch.arange(rows), segments=Segments.build((rows,), rows))
    return Alone(batch, 0, (rows // intake.stack,))
