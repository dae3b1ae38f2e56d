"""The config section of a synthetic source: a recipe of its documents."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, create_model

from counterpoint.kinds.modality import Modality
from counterpoint.modalities import MODALITIES
from counterpoint.section.of_kind import AsRegistered
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Index, Positive, Section, Share, Text
from counterpoint.sources.entry import EntrySection, Opening
from counterpoint.sources.synthetic.distributions import Constant, Distribution

if TYPE_CHECKING:
    from counterpoint.sources.source import Source

_ALWAYS_SAID = ("image", "audio", "features")
"""Modalities whose keys are always part of a recipe's `content`; keys of later ones only if the recipe draws items."""

_LARGEST_SEED = 2**64 - 1
"""A document's random streams are keyed with 64 bits of it."""


class Items(NamedTuple):
    """How items of one modality are drawn: their `number` in a document, the share of documents `without` any, and
    their `sizes`."""

    number: Distribution
    without: float
    sizes: tuple[Distribution, ...]


class SyntheticRecipe(Section):
    """Documents that are a pure function of (seed, index): random tokens, and noise for items."""

    documents: Count
    """Documents of the source. Unit: documents."""
    seed: Index = 0
    """Seed of the documents. No unit."""
    text_tokens: Distribution
    """Text tokens of a document, at least 1. Unit: tokens."""
    without_loss: Share = 0.0
    """Share of documents that have no loss token. Unit: share of documents."""
    modules: dict[Text, Positive] = Field(default_factory=dict)
    """Relative shares of items that each encoder of their modality gets, by module name; left out: equal shares.
    No unit."""
    without: dict[Text, Share] = Field(default_factory=dict)
    """Share of documents without an item for a module, by module name. Unit: share of documents."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The class that has the keys of all modalities is created on demand, so pickle cannot find it by name.
        return _recipe_of, (self.__getstate__(),)

    def content(self) -> dict[str, Any]:
        """The keys and values that determine what is drawn."""
        unsaid = [
            one for one in MODALITIES.values() if one.name not in _ALWAYS_SAID and not self.items(one).number.high
        ]
        drawings = [modality.drawing for modality in unsaid]
        keys = {key for one in drawings for key in (one.number, one.without, *one.sizes)}
        return self.model_dump(mode="json", exclude=keys)

    def items(self, modality: Modality) -> Items:
        """How items of a modality are drawn."""
        values, drawing = dict(self), modality.drawing
        sizes = tuple(values[key] for key in drawing.sizes)
        return Items(values[drawing.number], values[drawing.without], sizes)

    def problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """Problems of distributions, and items that no module reads."""
        drawings = [modality.drawing for modality in MODALITIES.values()]
        numbers = [drawing.number for drawing in drawings]
        values = dict(self)
        for key in ("text_tokens", *(key for one in drawings for key in (one.number, *one.sizes))):
            low, high = values[key].low, values[key].high
            if low > high:
                yield Problem(f"{path}.{key}.low", f"{low}", f"at most {key}.high, {high}", "swap or correct them")
            if key not in numbers and low < 1:
                yield Problem(f"{path}.{key}", f"a smallest value of {low}", "at least 1", "raise low or value")
        if self.seed > _LARGEST_SEED:
            yield Problem(f"{path}.seed", f"{self.seed}", f"at most 2**64 - 1, {_LARGEST_SEED}", "choose a smaller one")
        for modality in MODALITIES.values():
            items = self.items(modality)
            if items.number.high and items.without < 1 and modality not in taken.values():
                yield Problem(
                    f"{path}.{modality.drawing.number}",
                    f"up to {items.number.high}",
                    f"0, because no module reads {modality.plural}",
                    f"add {modality.read_by} or leave the key out",
                )
        yield from self._module_problems(path, taken)

    def _module_problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        encoders = [name for modality in MODALITIES.values() for name, own in taken.items() if own == modality]
        for key, shares in (("modules", self.modules), ("without", self.without)):
            for name in shares:
                if name not in encoders:
                    known = f"a module that takes items: {', '.join(encoders) or 'there is none'}"
                    yield Problem(f"{path}.{key}.{name}", show(shares[name]), known, "correct or remove it")


def _recipe_of(state: dict[Any, Any]) -> SyntheticRecipe:
    """Restore a pickled recipe."""
    section = recipe_section()
    recipe = section.__new__(section)
    recipe.__setstate__(state)
    return recipe


def recipe_section() -> type[SyntheticRecipe]:
    """The section of a recipe, with the keys of text and of all registered modalities."""
    return _section_for(tuple(MODALITIES))


@cache
def _section_for(kinds: tuple[str, ...]) -> type[SyntheticRecipe]:
    keys: dict[str, Any] = {}
    for modality in (MODALITIES[kind] for kind in kinds):
        drawing, plural = modality.drawing, modality.plural
        number, without = f"Number of {plural} of a document. No unit.", f"Share of documents that have no {plural}."
        keys[drawing.number] = (Distribution, Field(default=Constant(value=0), description=number))
        keys[drawing.without] = (Share, Field(default=0.0, description=f"{without} Unit: share of documents."))
        for key, default in drawing.sizes.items():
            described = drawing.described.get(key)
            keys[key] = (Distribution, Field(default=Constant(value=default), description=described))
    base = SyntheticRecipe
    return create_model(base.__name__, __base__=base, __module__=__name__, __doc__=base.__doc__, **keys)


class SyntheticEntry(EntrySection):
    """A synthetic source and its weight in the blend."""

    synthetic: Annotated[SyntheticRecipe, AsRegistered(recipe_section)]
    """The recipe of the documents."""

    @property
    def split(self) -> str:
        """What metrics call it."""
        return "synthetic"

    @property
    def folder(self) -> None:
        """None: it has no files."""
        return None

    def called(self, number: int) -> str:
        """`synthetic:` and its number."""
        return f"synthetic:{number}"

    def problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """The problems of the recipe."""
        yield from self.synthetic.problems(f"{path}.synthetic", taken)

    def missing(self, _path: str) -> Iterator[Problem]:
        """None: it needs no files."""
        yield from ()

    def content(self) -> dict[str, Any]:
        """Weight and recipe."""
        return self.said() | {"synthetic": self.synthetic.content()}

    def open(self, number: int, opening: Opening) -> "Source":
        """Open the recipe as a source; raises DataError."""
        from counterpoint.sources.synthetic.source import SyntheticSource

        return SyntheticSource(
            self.synthetic, number, opening.intakes, opening.sequence_tokens, opening.vocabulary, opening.mtp_depths
        )
