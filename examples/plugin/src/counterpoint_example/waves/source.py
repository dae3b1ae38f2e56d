"""Documents that say the period of a wave: a pure function of (seed, index)."""

from functools import cached_property
from typing import final

import numpy as np

from counterpoint.extend import DataError, Extent, Intake, Opening
from counterpoint.extend.data import Census, Document, TextPayload, lay_items, lay_text, text_rows
from counterpoint_example.series.arrays import Floats, SeriesPayload, windows_of
from counterpoint_example.series.spec import SERIES, SeriesIntake
from counterpoint_example.waves.spec import WORDS, WavesRecipe

_END = WORDS - 1
_DIGITS = 2


@final
class Waves:
    """A source: each document is a series and the two digits of its period."""

    index = None

    def __init__(self, recipe: WavesRecipe, number: int, opening: Opening) -> None:
        self.intakes = opening.intakes
        self._recipe, self._number, self._depths = recipe, number, opening.mtp_depths
        self._intake = next(one for one in opening.intakes.values() if one.kind == SERIES.name)
        rows = self._intake.place((recipe.samples,)).rows
        if rows + _DIGITS + 1 > opening.sequence_tokens:
            raise DataError(
                f"waves dataset {number}: a document has {rows + _DIGITS + 1} rows, expected at most "
                f"data.sequence_tokens, {opening.sequence_tokens}; raise it, or draw fewer samples."
            )
        if opening.vocabulary < WORDS:
            raise DataError(
                f"waves dataset {number}: got a model of {opening.vocabulary} words, expected at least {WORDS}; raise "
                "its vocab."
            )

    def __len__(self) -> int:
        return self._recipe.documents

    def where(self, index: int) -> str:
        """A document for people."""
        return f"document {index} of waves dataset {self._number}"

    @cached_property
    def census(self) -> Census:
        """All documents are kept whole."""
        tokens = (_DIGITS + 1) * len(self)
        return Census(documents=len(self), counted=len(self), cut=0, loss_tokens=tokens)

    def document(self, index: int) -> Document:
        """The metadata of a document: its series stands before the first digit."""
        items = lay_items([0], [self._intake.place((self._recipe.samples,))])
        words = _DIGITS + 1
        loss, *further = (max(words - text_rows(items, ahead + 1), 0) for ahead in range(1 + self._depths))
        return Document(self._number, index, words + items[0].rows, loss, items, tuple(further))

    def text(self, index: int) -> TextPayload:
        """The digits and the end, behind the rows of the series."""
        tens, ones = divmod(self._period(index), 10)
        tokens = np.array([tens, ones, _END], dtype=np.int64)
        return lay_text(tokens, np.ones(len(tokens), dtype=np.bool_), [0], [self.document(index).items[0].rows])

    def extent(self, _index: int, _which: int) -> Extent:
        """The size of the series."""
        return (self._recipe.samples,)

    def item(self, index: int, _which: int) -> SeriesPayload:
        """The rows of the series."""
        recipe, generator = self._recipe, self._generator(index, 1)
        times = np.arange(recipe.samples) + generator.random() * self._period(index)
        noise = recipe.noise * generator.standard_normal(recipe.samples)
        samples = np.sin(2 * np.pi * times / self._period(index)) + noise
        return windows_of(samples.astype(np.float32), _as_series(self._intake))

    def target(self, index: int, _which: int, _name: str, width: int, *, of_item: bool) -> Floats:
        """What losses compare the series with, float32 (n, width): its period, as sines and cosines of many lengths."""
        rows = 1 if of_item else self.document(index).items[0].rows
        waves = self._period(index) * 2.0 ** -np.arange(width // 2)
        both = np.concatenate([np.sin(waves), np.cos(waves), np.zeros(width % 2)])
        return np.tile(both.astype(np.float32), (rows, 1))

    def _period(self, index: int) -> int:
        return int(self._generator(index, 0).integers(2, self._recipe.longest, endpoint=True))

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._recipe.seed, index, stream])


def _as_series(intake: Intake) -> SeriesIntake:
    assert isinstance(intake, SeriesIntake), "an intake of this kind is that of a tower of series"
    return intake
