"""Documents that are a pure function of (seed, index), by declared distributions."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from counterpoint.data.images import ItemSettings, grid_coordinates
from counterpoint.data.payload import PatchPayload, TextPayload, lay_items, lay_text
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Item


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
    image sides are in pixels.
    """

    documents: int
    seed: int
    text_tokens: Distribution
    images_per_document: Distribution = Constant(0)
    image_height: Distribution = Constant(224)
    image_width: Distribution = Constant(224)
    without_images: float = 0.0
    without_loss: float = 0.0


@dataclass(frozen=True, slots=True)
class _Shape:
    """The metadata of one document; `positions` are the tokens that its images stand before."""

    text_tokens: int
    has_loss: bool
    positions: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]


class _Stream(IntEnum):
    """Independent random streams of one document; an item's stream is ITEM + its number."""

    SHAPE = 0
    TEXT = 1
    ITEM = 2


class SyntheticSource:
    """A recipe as a source; every document fits: images are added while they do, text is cut to the rest.

    Raises DataError if the recipe has images and `settings` is None.
    """

    excluded = 0

    def __init__(
        self,
        recipe: SyntheticRecipe,
        source: int,
        settings: ItemSettings | None,
        sequence_tokens: int,
        vocabulary: int,
    ) -> None:
        if settings is None and recipe.images_per_document != Constant(0) and recipe.without_images < 1:
            raise DataError(
                f"synthetic dataset {source}: it declares images, a modality without a module; add a vision "
                "module and its edge, or set images_per_document to the constant 0."
            )
        self.settings = settings
        self._recipe, self._source = recipe, source
        self._sequence_tokens, self._vocabulary = sequence_tokens, vocabulary

    def __len__(self) -> int:
        return self._recipe.documents

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        shape = self._shape(index)
        items: tuple[Item, ...] = ()
        if self.settings is not None:
            items = lay_items(self.settings.module, shape.positions, shape.grids, self.settings.merge)
        starts_with_text = not (shape.positions and shape.positions[0] == 0)
        loss_tokens = (shape.text_tokens - starts_with_text) if shape.has_loss else 0
        return Document(self._source, index, shape.text_tokens + sum(i.rows for i in items), loss_tokens, items)

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, (tokens,) each."""
        shape = self._shape(index)
        tokens = self._generator(index, _Stream.TEXT).integers(self._vocabulary, size=shape.text_tokens)
        targets = np.full(shape.text_tokens, shape.has_loss)
        return lay_text(tokens, targets, shape.positions, [item.rows for item in self.document(index).items])

    def grid(self, index: int, which: int) -> tuple[int, int]:
        """The patch grid of an image."""
        return self._shape(index).grids[which]

    def item(self, index: int, which: int) -> PatchPayload:
        """The patch rows of an image, uniform in [-1, 1)."""
        assert self.settings is not None, "a document with items comes from a source with item settings"
        rows, columns = self.grid(index, which)
        generator = self._generator(index, _Stream.ITEM + which)
        patches = generator.random((rows * columns, self.settings.columns), dtype=np.float32) * 2 - 1
        return PatchPayload(patches, grid_coordinates(rows, columns, self.settings.merge), (rows, columns))

    def _shape(self, index: int) -> _Shape:
        recipe, generator = self._recipe, self._generator(index, _Stream.SHAPE)
        has_images, has_loss = generator.random(2) >= (recipe.without_images, recipe.without_loss)
        wanted = max(1, recipe.text_tokens.sample(generator))
        grids: list[tuple[int, int]] = []
        free = self._sequence_tokens - 1
        if self.settings is not None and has_images:
            for _ in range(recipe.images_per_document.sample(generator)):
                size = recipe.image_height.sample(generator), recipe.image_width.sample(generator)
                grid = self.settings.grid(*size)
                rows = grid[0] * grid[1] // self.settings.merge**2
                if rows > free:
                    break
                grids.append(grid)
                free -= rows
        text_tokens = min(wanted, free + 1)
        positions = np.sort(generator.integers(text_tokens, size=len(grids), endpoint=True))
        return _Shape(text_tokens, bool(has_loss), tuple(positions.tolist()), tuple(grids))

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        # The counter's last word keeps the streams of one document 2**192 draws apart. The dtype is given
        # because numpy would take a list with a seed of 2**63 or more for floats.
        key = np.array([self._recipe.seed, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))
