"""The options of `prepare`."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.modalities.images.spec import MOST_PIXELS

DEFAULT_VOCABULARY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How a source becomes an index.

    Text is split by `tokenizer`, or by byte-level BPE trained on the split `train` (on everything if there is none): of
    `vocabulary` ids for conversations. `seed` chooses what `emoji` holds out. Files of records lie in the folder of
    the source or in those of `images`; a picture of more than `most_pixels` is refused.
    """

    tokenizer: Path | None = None
    vocabulary: int = DEFAULT_VOCABULARY
    seed: int = 0
    images: tuple[Path, ...] = ()
    most_pixels: int = MOST_PIXELS
