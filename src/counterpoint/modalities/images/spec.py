"""Images: the number of patches that an image becomes in a module, from its size alone, and the modality itself."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

from pydantic import Field

from counterpoint.errors import DataError
from counterpoint.kinds.modality import (
    Drawing,
    Extent,
    Form,
    Intake,
    ItemSection,
    Modality,
    PartForm,
    Placed,
    Scalar,
    Small,
)
from counterpoint.modalities.images.sizes import ResizeConfig
from counterpoint.modalities.images.sizes.longer import Longer
from counterpoint.modalities.images.sizes.rule import SizeRule, View
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Index, Positive, Section

CHANNELS = (1, 3)

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded unless another limit is given: 8192 x 8192."""

LARGEST_LIMIT = 2**30 // 12
"""What Pillow calls a decompression bomb."""

Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Filters that scale pictures, by Pillow's names; all but `nearest` average what a pixel covers."""

PixelLimit = Annotated[Count, Field(le=LARGEST_LIMIT)]
"""The most pixels of a picture that is decoded."""

PerChannel = Annotated[tuple[float, float, float], Field(strict=False)]
PositivePerChannel = Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class Scaling(NamedTuple):
    """How pixels become numbers: `resampling` scales a picture; by channel, `mean` is subtracted from a value from 0 to
    1 and the difference is divided by `std`. Scaled pixels are `rounded` to 8 bits, or kept as the filter makes them,
    which beside an edge may be darker than black and lighter than white.

    The defaults are for a module whose section and folder say nothing of it.
    """

    resampling: Resampling = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    rounded: bool = True


DEFAULT_SCALING = Scaling()


class ImageSection(Section):
    """How an image of some `kind`, the name of its modality, becomes patches."""

    possible_channels: ClassVar[tuple[int, ...]] = CHANNELS
    """Numbers that a pixel may have."""

    kind: Any
    """What kind of images they are."""
    size: Count | None = None
    """Longer side of an image after scaling; null: it is not scaled. Unit: pixels."""
    max_patches: Count | None = None
    """Most patches of an image; a larger grid is scaled down at about the same aspect ratio. Unit: patches."""

    def problems(self, where: str) -> Iterator[Problem]:
        """Problems of the section at the key `where` besides its types and its size rule."""
        if self.max_patches is None:
            yield Problem(f"{where}.max_patches", "nothing", "a number of patches", "add it like max_patches: 256")

    @property
    def rule(self) -> SizeRule | None:
        """How an image gets its size; None where the section does not say, which `problems` yields."""
        return None if self.max_patches is None else Longer(size=self.size, max_patches=self.max_patches)

    @property
    def rules(self) -> dict[str, SizeRule]:
        """The size rules that it names, by their keys."""
        return {} if self.rule is None else {"resize": self.rule}

    @property
    def most_pixels(self) -> int:
        """The most pixels of an image that is decoded."""
        return MOST_PIXELS

    def of_video(self, _pictures: int, _frames: int) -> "ImageSection":
        """The section for pictures of a video with so many, of which a patch spans `frames`: by default the same."""
        return self

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        """The settings by which a file becomes patches, by the keys of the section."""
        return self.model_dump(exclude={"kind"})


class ImageConfig(ImageSection):
    """How a picture, or a frame of a video, becomes patches."""

    left_out = "how the module's images become patches", "add it like {size: 224, max_patches: 256}"

    kind: Literal["image"] = Field(default="image", exclude=True)
    resize: ResizeConfig | None = None
    """How a picture gets its size, as the processor of a published model does it; null: by `size` and `max_patches`,
    which are left out otherwise."""
    video: ResizeConfig | None = None
    """How pictures of a video (of two or more) get their size; null: as single pictures."""
    resampling: Resampling | None = None
    """Filter that scales a picture, by Pillow's names; null: that of the folder in `init_from`, else `bicubic`."""
    mean: PerChannel | None = None
    """Subtracted of pixel values from 0 to 1, for each of red, green and blue; null: that of the folder in `init_from`,
    else 0.5. Unit: pixel values from 0 to 1."""
    std: PositivePerChannel | None = None
    """Divides what is left, for each of red, green and blue; null: that of the folder in `init_from`, else 0.5.
    Unit: pixel values from 0 to 1."""
    rounded: bool | None = None
    """Whether scaled pixels are rounded to 8 bits, as Pillow does it, or kept as the filter makes them, as Nemotron-H
    Omni's processor does it; null: as the folder in `init_from` does it, else true."""
    reduce: Index = 0
    """Decode a JPEG at 1/2, 1/4 or 1/8 of its size where that leaves at least this many times the size after scaling,
    which is faster; 0: never. With 3 pixel values differ by at most 6/255. No unit."""
    max_pixels: PixelLimit = MOST_PIXELS
    """Pixels above which a picture is not decoded but treated as unreadable. Unit: pixels."""

    def problems(self, where: str) -> Iterator[Problem]:
        if self.resize is None and self.max_patches is None:
            remedy = "add it like max_patches: 256, or a size rule `resize`"
            yield Problem(f"{where}.max_patches", "nothing", "a number of patches", remedy)
        for key, rule in self.rules.items():
            if rule.squares and self.reduce:
                expected = f"0, because {where}.{key}.kind is {rule.kind}"
                yield Problem(f"{where}.reduce", f"{self.reduce}", expected, "leave one of them out")
        for key, value in (("size", self.size), ("max_patches", self.max_patches)):
            if self.resize is not None and value is not None:
                expected = f"null, because {where}.resize says how a picture gets its size"
                yield Problem(f"{where}.{key}", f"{value}", expected, "leave one of them out")

    @property
    def rule(self) -> SizeRule | None:
        return super().rule if self.resize is None else self.resize

    @property
    def rules(self) -> dict[str, SizeRule]:
        return super().rules if self.video is None else {**super().rules, "video": self.video}

    @property
    def most_pixels(self) -> int:
        return self.max_pixels

    def of_video(self, pictures: int, frames: int) -> "ImageConfig":
        return self if self.video is None else self.model_copy(update={"resize": self.video.of(pictures, frames)})

    @property
    def scaling(self) -> Scaling:
        """The scaling of pixels, with the defaults for keys that are null."""
        default = DEFAULT_SCALING
        rounded = default.rounded if self.rounded is None else self.rounded
        return Scaling(
            self.resampling or default.resampling, self.mean or default.mean, self.std or default.std, rounded
        )

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        rule = {} if self.rule is None else self.rule.identity
        video = {} if self.video is None else {f"video.{key}": value for key, value in self.video.model_dump().items()}
        scaling = self.scaling._asdict()
        if scaling["rounded"]:
            # Checkpoints from before the key have no other.
            del scaling["rounded"]
        return {**rule, **video, **scaling, "reduce": self.reduce, "max_pixels": self.max_pixels}


@final
@dataclass(frozen=True, slots=True)
class ImageIntake:
    """How images enter a module, as its section `image` says: `merge` x `merge` patches leave as one row.

    `mark` stood for an image in the text that was prepared. Where a patch has several `frames`, an image is repeated in
    each, and that many pictures of a video make one item. `prefix` learned rows of the module go before each item;
    attention is limited to windows of `window` x `window` patches, 0 for none. With `queries` that many learned rows
    leave for each item in place of its own. Raises DataError if a number is not positive, `channels` is not 1 or 3, or
    the section's `max_patches` hold no merge group.
    """

    module: str
    image: ImageSection
    _: KW_ONLY
    patch: int
    merge: int = 1
    channels: int = 3
    mark: str = "<image>"
    frames: int = 1
    prefix: int = 0
    window: int = 0
    queries: int = 0

    def __post_init__(self) -> None:
        if min(self.patch, self.merge) < 1 or self.channels not in CHANNELS:
            raise DataError(
                f"image settings of module '{self.module}': got patch {self.patch}, merge {self.merge}, size "
                f"{self.image.size}, channels {self.channels}; expected positive numbers and 1 or 3 channels."
            )
        most = self.rule.most(self.patch, self.merge)
        if most < self.merge**2:
            key, value = self.rule.limit
            raise DataError(
                f"image settings of module '{self.module}': {key} {value} is smaller than one group of merge x merge = "
                f"{self.merge**2} patches; raise modules.{self.module}.model.image.{key}."
            )

    @property
    def rule(self) -> SizeRule:
        """How an image gets its size; raises DataError where its section does not say."""
        rule = self.image.rule
        if rule is None:
            raise DataError(
                f"image settings of module '{self.module}': got no max_patches, expected a number; add "
                f"modules.{self.module}.model.image.max_patches."
            )
        return rule

    @property
    def kind(self) -> str:
        """The kind of item that the module takes."""
        kind: str = self.image.kind
        return kind

    @property
    def row_multiple(self) -> int:
        """Patches that leave as one row."""
        return self.merge**2

    @property
    def columns(self) -> int:
        """Numbers per patch row, in (channel, frame, row, column) order."""
        return self.channels * self.frames * self.patch**2

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        """The settings by which a file becomes patches, by the keys of the section `image`."""
        return self.image.identity

    def of(self, extent: Extent) -> "ImageIntake":
        """How images of this extent enter: pictures of a video may have a size rule of their own."""
        if len(extent) == len(IMAGES.columns):
            return self
        return replace(self, image=self.image.of_video(extent[-1], self.frames))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (rows, columns) of an image of a size in pixels."""
        return self.rule.grid(height, width, self.patch, self.merge)

    def view(self, height: int, width: int) -> View:
        """How the pixels of an image of a size come onto its grid; raises DataError if it is not taken."""
        refusal = self._refusal(height, width)
        if refusal is not None:
            raise DataError(f"the image of {height}x{width} pixels is not taken: {refusal}; leave it out, or crop it.")
        return self.rule.view(height, width, self.patch, self.merge)

    def fits(self, extent: Extent) -> bool:
        """Whether its size rule takes an image of this size: most take any."""
        height, width = extent[:2]
        return self.of(extent)._refusal(height, width) is None

    def _refusal(self, height: int, width: int) -> str | None:
        return self.rule.refusal(height, width, self.patch, self.merge, self.image.most_pixels)

    def place(self, extent: Extent) -> Placed:
        """The rows of an image of `extent`, (height, width) or (height, width, pictures of its video), and the columns
        of merged cells that leave."""
        height, width = extent[:2]
        rows, columns = self.of(extent).grid(height, width)
        left = self.queries or rows * columns // self.merge**2
        return Placed(self.module, rows * columns, left, columns // self.merge)

    def groups(self, files: int) -> tuple[slice, ...]:
        """The pictures of an image (one) or a video (`files`) by item: `frames` each, and the rest in the last."""
        return tuple(slice(first, first + self.frames) for first in range(0, files, self.frames))

    def drawn(self, sizes: tuple[int, ...]) -> Extent:
        """The size of a synthetic image: (height, width) as drawn."""
        return sizes


def with_most_patches(intake: Intake, patches: int) -> Intake:
    """The same intake with at most so many patches of an image, or one merge group, where its size rule has a limit;
    other items stay as they are."""
    if not isinstance(intake, ImageIntake):
        return intake
    limited: dict[str, Any] = {
        key: rule.at_most(patches, intake.patch, intake.merge) for key, rule in intake.image.rules.items()
    }
    rule = limited["resize"]
    if isinstance(rule, Longer):  # It stands in keys of the section itself.
        del limited["resize"]
        limited["max_patches"] = rule.max_patches
    return replace(intake, image=intake.image.model_copy(update=limited))


def _small(_generator: Random, small: Small) -> dict[str, Any]:
    return {
        "images_per_document": small.number, "image_height": small.side, "image_width": small.side,
        "without_images": small.without,
    }  # fmt: skip


IMAGES = Modality(
    name="image",
    plural="images",
    read_by="a vision module",
    columns=("height", "width"),
    counts=("images", "videos"),
    forms=(
        Form(key="image", mark="<image>", name="image", file="image", plural="images"),
        Form(key="video", mark="<video>", name="video", file="picture", plural="videos", is_list=True),
    ),
    parts=(PartForm(type="image_url", field="url", key="image"),),
    drawing=Drawing(
        number="images_per_document",
        without="without_images",
        sizes={"image_height": 224, "image_width": 224},
        stream=None,
        module_stream=2**32,
        small=_small,
        described={
            "image_height": "Height of an image, before it is scaled. Unit: pixels.",
            "image_width": "Width of an image, before it is scaled. Unit: pixels.",
        },
    ),
    section=ItemSection(
        key="image",
        section=ImageConfig,
        defaults=DEFAULT_SCALING._asdict(),
        origin="counterpoint.convert.processor:said_of_images",
        small={"size": None, "max_patches": 16, "resize": None, "video": None},
    ),
    size="counterpoint.modalities.images.pictures:image_size",
    rows="counterpoint.modalities.images.rows:ImageRows",
    alone="counterpoint.modalities.images.alone:image_alone",
    preview="counterpoint.modalities.images.preview:ImagePreview",
)
