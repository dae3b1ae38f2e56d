"""Documents that are drawn from the distributions of a recipe, as a pure function of (seed, index)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from zlib import crc32

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.kinds.modality import Extent, Intake, Intakes, Modality, Payload
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.content import rows_of
from counterpoint.plan.samples import Document, text_rows
from counterpoint.sources.census import CUT_TARGETS, DECLARED, TOO_SHORT, Census
from counterpoint.sources.payload import TextPayload, lay_items, lay_text
from counterpoint.sources.synthetic.distributions import Constant
from counterpoint.sources.synthetic.spec import SyntheticRecipe

COUNTED = 256
"""Most documents that a census draws."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """The metadata of one document; `positions` are the tokens that its `items` precede, `is_cut` says that drawn text
    or items did not fit."""

    text_tokens: int
    has_loss: bool
    positions: tuple[int, ...]
    items: tuple["_Drawn", ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An item: how it enters its module, and its size."""

    intake: Intake
    extent: Extent


class _Stream(IntEnum):
    """Independent random streams of a document, in addition to those of modalities.

    The stream of an item is ITEM + its number; that of its targets is TARGET, combined with their name.
    """

    SHAPE = 0
    TEXT = 1
    ITEM = 2
    ORDER = 2**32 + 3
    TARGET = 2**60


class SyntheticSource:
    """The documents of a recipe; each fits: items are added while there is room, then text is truncated to the rest.

    Clips are at most as long as their module accepts. Loss tokens are counted for the next token and for `mtp_depths`
    further ones. Raises DataError if the recipe has items that no module in `intakes` reads.
    """

    def __init__(
        self,
        recipe: SyntheticRecipe,
        source: int,
        intakes: Intakes,
        sequence_tokens: int,
        vocabulary: int,
        mtp_depths: int = 0,
    ) -> None:
        self._drawings = {kind: recipe.items(modality) for kind, modality in MODALITIES.items()}
        for kind, modality in MODALITIES.items():
            items = self._drawings[kind]
            is_taken = any(intake.kind == kind for intake in intakes.values())
            if not is_taken and items.number != Constant(value=0) and items.without < 1:
                raise DataError(
                    f"synthetic dataset {source}: it declares {modality.plural}, a modality without a module; add "
                    f"{modality.read_by} and its edge, or set {modality.drawing.number} to the constant 0."
                )
        self.intakes = intakes
        self._recipe, self._source = recipe, source
        self._sequence_tokens, self._vocabulary, self._mtp_depths = sequence_tokens, vocabulary, mtp_depths
        self._weights = {kind: _weights(recipe.modules, intakes, kind) for kind in MODALITIES}

    def __len__(self) -> int:
        return self._recipe.documents

    @property
    def index(self) -> None:
        """None: its documents have no text."""
        return None

    def where(self, index: int) -> str:
        """The document's number; it has no file."""
        return f"document {index} of synthetic dataset {self._source}"

    @cached_property
    def census(self) -> Census:
        """The census of at most COUNTED evenly spread documents, since each has to be drawn."""
        counted = min(len(self), COUNTED)
        chosen = [number * len(self) // counted for number in range(counted)]
        documents, shapes = [self.document(index) for index in chosen], [self._shape(index) for index in chosen]
        silent = [shape for document, shape in zip(documents, shapes) if not document.loss_tokens]
        reasons = [DECLARED if not s.has_loss else CUT_TARGETS if s.is_cut else TOO_SHORT for s in silent]
        without_loss = {reason: reasons.count(reason) for reason in (DECLARED, CUT_TARGETS, TOO_SHORT)}
        return Census(
            documents=len(self),
            counted=counted,
            cut=sum(shape.is_cut for shape in shapes),
            loss_tokens=sum(document.loss_tokens for document in documents),
            without_loss={reason: count for reason, count in without_loss.items() if count},
        )

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        shape = self._shape(index)
        items = lay_items(shape.positions, [item.intake.place(item.extent) for item in shape.items])
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

    def extent(self, index: int, which: int) -> Extent:
        """The size of an item."""
        return self._shape(index).items[which].extent

    def item(self, index: int, which: int) -> Payload:
        """The rows of an item, uniform in [-1, 1)."""
        item = self._shape(index).items[which]
        return rows_of(item.intake).noise(self._generator(index, _Stream.ITEM + which), item.extent)

    def target(self, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
        """Targets uniform in [-1, 1), different for each name."""
        rows = 1 if of_item else self.document(index).items[which].rows
        generator = self._generator(index, _Stream.TARGET + (crc32(name.encode()) << 16) + which)
        return generator.random((rows, width), dtype=np.float32) * 2 - 1

    def _shape(self, index: int) -> _Shape:
        recipe, generator = self._recipe, self._generator(index, _Stream.SHAPE)
        chance, loss_chance = generator.random(2).tolist()
        wanted = max(1, recipe.text_tokens.sample(generator))
        items: list[_Drawn] = []
        free, is_cut = self._sequence_tokens - 1, False
        for item in self._drawn(index, generator, chance):
            rows = item.intake.place(item.extent).rows
            if rows > free:
                is_cut = True
                break
            items.append(item)
            free -= rows
        text_tokens = min(wanted, free + 1)
        positions = np.sort(generator.integers(text_tokens, size=len(items), endpoint=True))
        is_cut = is_cut or text_tokens < wanted
        return _Shape(text_tokens, loss_chance >= recipe.without_loss, tuple(positions.tolist()), tuple(items), is_cut)

    def _drawn(self, index: int, generator: np.random.Generator, chance: float) -> Iterable[_Drawn]:
        """The items of a document.

        The one modality without a stream draws from the document's `generator`, lazily. All other modalities have
        streams of their own, so that adding them changes neither its items nor the text.
        """
        first: Iterator[_Drawn] = iter(())
        others: list[_Drawn] = []
        for modality in MODALITIES.values():
            if modality.drawing.stream is None:
                first = self._items(index, modality, generator, chance)
            elif self._weights[modality.name]:
                own = self._generator(index, modality.drawing.stream)
                others += self._items(index, modality, own, own.random())
        if not others:
            return first
        together = [*first, *others]
        order = self._generator(index, _Stream.ORDER).permutation(len(together))
        return [together[place] for place in order]

    def _items(self, index: int, modality: Modality, generator: np.random.Generator, chance: float) -> Iterator[_Drawn]:
        items = self._drawings[modality.name]
        if chance < items.without or not self._weights[modality.name]:
            return
        modules = self._modules(index, modality)
        for _ in range(items.number.sample(generator)):
            sizes = tuple(size.sample(generator) for size in items.sizes)
            intake = next(modules)
            if intake is not None:
                yield _Drawn(intake, intake.drawn(sizes))

    def _modules(self, index: int, modality: Modality) -> Iterator[Intake | None]:
        """The intakes that a document's items of a modality enter, one by one; None for an item that is dropped.

        They are drawn from a separate stream, so that the modules do not change the sizes of items.
        """
        weights = self._weights[modality.name]
        names, bounds = tuple(weights), np.cumsum(list(weights.values()))
        generator = self._generator(index, modality.drawing.module_stream)
        absent = {name for name, share in sorted(self._recipe.without.items()) if generator.random() < share}
        while True:
            place = np.searchsorted(bounds, generator.random() * bounds[-1], side="right")
            name = names[int(place)]
            yield None if name in absent else self.intakes[name]

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        # The counter's last word keeps the streams of one document 2**192 draws apart. The dtype is given
        # because numpy would take a list with a seed of 2**63 or more for floats.
        key = np.array([self._recipe.seed, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))


def _weights(modules: Mapping[str, float], intakes: Intakes, kind: str) -> dict[str, float]:
    """The weights of the modules that read a kind: those in `modules`, or equal ones if it names none of them."""
    able = [name for name, intake in intakes.items() if intake.kind == kind]
    named = {name: weight for name, weight in modules.items() if name in able}
    return named or dict.fromkeys(able, 1.0)
