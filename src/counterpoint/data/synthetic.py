"""Documents that are a pure function of (seed, index), by declared distributions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from counterpoint.data.images import ItemSettings, Settings, grid_coordinates
from counterpoint.data.payload import PatchPayload, Placed, TextPayload, lay_items, lay_text
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, text_rows


@dataclass(frozen=True, slots=True)
class Constant:
    """Always `value`."""

    value: int

    def sample(self, _generator: np.random.Generator) -> int:
        """One draw."""
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every integer from `low` to `high`, both included, equally often."""

    low: int
    high: int

    def sample(self, generator: np.random.Generator) -> int:
        """One draw."""
        return int(generator.integers(self.low, self.high, endpoint=True))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """exp(N(log median, sigma)), rounded and kept between `low` and `high`."""

    median: float
    sigma: float
    low: int
    high: int

    def sample(self, generator: np.random.Generator) -> int:
        """One draw."""
        drawn = round(self.median * math.exp(self.sigma * generator.standard_normal()))
        return min(max(drawn, self.low), self.high)


Distribution = Constant | Uniform | LogNormal


@dataclass(frozen=True, slots=True)
class SyntheticRecipe:
    """What synthetic documents look like.

    `without_images` and `without_loss` are the shares of documents that have no image and no loss token;
    image sides are in pixels. An image goes to one of `modules` by its weight, to any that takes images if there are
    none; `without` are the shares of documents that have no image of a module.
    """

    documents: int
    seed: int
    text_tokens: Distribution
    images_per_document: Distribution = Constant(0)
    image_height: Distribution = Constant(224)
    image_width: Distribution = Constant(224)
    without_images: float = 0.0
    without_loss: float = 0.0
    modules: Mapping[str, float] = field(default_factory=dict)
    without: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The metadata of one document; `positions` are the tokens that its `images` stand before."""

    text_tokens: int
    has_loss: bool
    positions: tuple[int, ...]
    images: tuple[Placed, ...]


class _Stream(IntEnum):
    """Independent random streams of one document; an item's stream is ITEM + its number."""

    SHAPE = 0
    TEXT = 1
    ITEM = 2
    MODULES = 2**32


class SyntheticSource:
    """A recipe as a source; every document fits: images are added while they do, text is cut to the rest.

    Documents count their loss tokens for `mtp_depths` further tokens, too.
    Raises DataError if the recipe has images that no module in `settings` takes.
    """

    excluded = 0

    def __init__(
        self,
        recipe: SyntheticRecipe,
        source: int,
        settings: Settings,
        sequence_tokens: int,
        vocabulary: int,
        mtp_depths: int = 0,
    ) -> None:
        if not settings and recipe.images_per_document != Constant(0) and recipe.without_images < 1:
            raise DataError(
                f"synthetic dataset {source}: it declares images, a modality without a module; add a vision "
                "module and its edge, or set images_per_document to the constant 0."
            )
        self.settings = settings
        self._recipe, self._source = recipe, source
        self._sequence_tokens, self._vocabulary, self._mtp_depths = sequence_tokens, vocabulary, mtp_depths
        weights = recipe.modules or dict.fromkeys(settings, 1.0)
        self._modules, self._bounds = tuple(weights), np.cumsum(list(weights.values()))

    def __len__(self) -> int:
        return self._recipe.documents

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        shape = self._shape(index)
        items = lay_items(shape.positions, shape.images)
        loss_tokens, *further = (
            max(shape.text_tokens - text_rows(items, depth + 1), 0) if shape.has_loss else 0
            for depth in range(1 + self._mtp_depths)
        )
        tokens = shape.text_tokens + sum(item.rows for item in items)
        return Document(self._source, index, tokens, loss_tokens, items, tuple(further))

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, (tokens,) each."""
        shape = self._shape(index)
        tokens = self._generator(index, _Stream.TEXT).integers(self._vocabulary, size=shape.text_tokens)
        targets = np.full(shape.text_tokens, shape.has_loss)
        return lay_text(tokens, targets, shape.positions, [item.rows for item in self.document(index).items])

    def grid(self, index: int, which: int) -> tuple[int, int]:
        """The patch grid of an image."""
        return self._shape(index).images[which].grid

    def item(self, index: int, which: int) -> PatchPayload:
        """The patch rows of an image, uniform in [-1, 1)."""
        module, merge, (rows, columns) = self._shape(index).images[which]
        generator = self._generator(index, _Stream.ITEM + which)
        patches = generator.random((rows * columns, self.settings[module].columns), dtype=np.float32) * 2 - 1
        return PatchPayload(patches, grid_coordinates(rows, columns, merge), (rows, columns))

    def _shape(self, index: int) -> _Shape:
        recipe, generator = self._recipe, self._generator(index, _Stream.SHAPE)
        has_images, has_loss = generator.random(2) >= (recipe.without_images, recipe.without_loss)
        wanted = max(1, recipe.text_tokens.sample(generator))
        images: list[Placed] = []
        free = self._sequence_tokens - 1
        modules = self._image_modules(index)
        for _ in range(recipe.images_per_document.sample(generator) if has_images and self.settings else 0):
            size = recipe.image_height.sample(generator), recipe.image_width.sample(generator)
            settings = next(modules)
            if settings is None:
                continue
            image = Placed(settings.module, settings.merge, settings.grid(*size))
            if image.rows > free:
                break
            images.append(image)
            free -= image.rows
        text_tokens = min(wanted, free + 1)
        positions = np.sort(generator.integers(text_tokens, size=len(images), endpoint=True))
        return _Shape(text_tokens, bool(has_loss), tuple(positions.tolist()), tuple(images))

    def _image_modules(self, index: int) -> Iterator[ItemSettings | None]:
        """The modules of a document's images, one by one; None for an image of a module that the document is without.

        A stream of its own keeps the sizes of the images what they are whatever the modules.
        """
        generator = self._generator(index, _Stream.MODULES)
        absent = {name for name, share in sorted(self._recipe.without.items()) if generator.random() < share}
        while True:
            place = np.searchsorted(self._bounds, generator.random() * self._bounds[-1], side="right")
            name = self._modules[int(place)]
            yield None if name in absent else self.settings[name]

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        # The counter's last word keeps the streams of one document 2**192 draws apart. The dtype is given
        # because numpy would take a list with a seed of 2**63 or more for floats.
        key = np.array([self._recipe.seed, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))
