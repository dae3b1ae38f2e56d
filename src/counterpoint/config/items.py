"""What makes a module's input of an item's file: the patches of an image, the frames of a clip."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from counterpoint.section.section import Count, Index, Positive, Section

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded unless another limit is given: 8192 x 8192."""

FRAMES_A_SECOND = 100
"""Frames of log-mel bands that a clip has for each second."""

LARGEST_LIMIT = 2**30 // 12
"""What Pillow calls a decompression bomb."""

Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Filters that scale pictures, by Pillow's names; all but `nearest` average what a pixel covers."""

PerChannel = Annotated[tuple[float, float, float], Field(strict=False)]
PositivePerChannel = Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class Scaling(NamedTuple):
    """How pixels become numbers: `resampling` scales a picture, `mean` is subtracted of a value from 0 to 1 and `std`
    divides what is left, by channel.

    The defaults are of a module that neither says its own nor starts from a folder that does.
    """

    resampling: Resampling = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


DEFAULT_SCALING = Scaling()


class ImageConfig(Section):
    """How an image, or an item of a video, becomes patches.

    `size` is the longer side in pixels after scaling by the filter `resampling` (null: as it is), `max_patches` the
    largest number. Of a value from 0 to 1 `mean` is subtracted, and `std` divides what is left, by channel. Where
    `resampling`, `mean` or `std` is null, it is what the folder in `init_from` says, else bicubic, 0.5 and 0.5. A
    JPEG is decoded at a half, a quarter or an eighth where that leaves `reduce` times its size after scaling (0: never;
    with 3 values were off by 0.17/255 to 0.44/255 on average, by 6/255 at most). A picture of more than `max_pixels` is
    not decoded.
    """

    size: Count | None = None
    max_patches: Count
    resampling: Resampling | None = None
    mean: PerChannel | None = None
    std: PositivePerChannel | None = None
    reduce: Index = 0
    max_pixels: Annotated[Count, Field(le=LARGEST_LIMIT)] = MOST_PIXELS


class AudioConfig(Section):
    """How a clip becomes frames: cut or filled up with silence to `seconds`, or as long as it is (`own`).

    Null is what the folder in `init_from` says, else `own`. The silence is part of the clip: a conformer normalises its
    bands together with it, where Parakeet was trained on clips of their own length.
    """

    seconds: Count | Literal["own"] | None = None
