"""What a family of models tells the rest of the package."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.modality import Intake
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Section

DOCUMENTS, ROWS, ITEMS = "documents", "rows", "items"
"""What enters a decoder, a model that reads the rows of others, and other models, which take those of a modality."""


class ModelSection(Section):
    """What a module computes; `kind` names its family."""

    kind: Any
    """The family of models."""

    @property
    def num_layers(self) -> int:
        """Layers that pipeline stages are cut from: one where a model stays whole."""
        return 1

    @property
    def layer_kinds(self) -> frozenset[str]:
        """The kinds of its layers, by their letters."""
        return frozenset(ENCODER_LAYER)

    @property
    def words(self) -> int | Literal["tokenizer"]:
        """Words of documents that enter: a number, 0 where none do, or those of the tokenizer."""
        return 0

    @property
    def queries(self) -> int:
        """Learned rows that leave for each item in the place of its own; 0: its own leave."""
        return 0

    @property
    def position_axes(self) -> int:
        """Coordinates of the positions of the documents that enter."""
        return 1

    @property
    def second_reader(self) -> tuple[str, str] | None:
        """What reads the embedding once more in the last stage, in words, and how it is left out."""
        return None

    @property
    def norm_of_taps(self) -> str:
        """The norm of the projectors after earlier layers (taps)."""
        return "none"

    @property
    def entering(self) -> int | None:
        """Columns of the rows that enter along edges, where the section says so."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What the graph and the tokenizer add to a model's section.

    Rows from other modules have `entering` columns, and those that leave have as many as what reads them, `leaving`.
    Rows that leave the layers `taps` are outputs as well; features are added after the layers `inserts`. Both ascend.
    """

    entering: int = 0
    leaving: int = 0
    vocab: int = 0
    taps: tuple[int, ...] = ()
    inserts: tuple[int, ...] = ()


class Model(NamedTuple):
    """A model as it stands in a graph."""

    section: Any
    ends: Ends


class Given(NamedTuple):
    """Complete tensors to start from, by their names in the model without `prefix`; messages call them those of
    `owner`."""

    owner: str
    prefix: str
    tensors: Mapping[str, Any]


S = TypeVar("S", bound=ModelSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(Generic[S]):
    """A family of models.

    `problems(where, section, layout)` are those of a module at the key `where`; `check` raises ConfigError for what
    only building it shows, and `can_cut` says whether tensor parallelism of a degree would pass it. `whole` says why a
    model cannot be cut into stages, if it cannot, and `fixed` which degrees are 1 then. A section that `is_pure` says
    all that its numbers follow from. `given` are tensors that the section names itself to start from. `parts` is the
    place, `package.module:name`, of the function of (section, ends) that builds its parts. Sentences call one `called`.

    What a section says of its tensors is compared by key: `resolved` are the values of keys that it may leave out,
    those that are `idle` say nothing in it, those in `steers` how it is trained or computed. Of `switches` only null or
    not counts, and what is `apart` is about parameters with names of their own.

    What reads items `takes` those of the modality of a name; `intake(module, section, mark)` says how they enter a
    module, for which `mark` stands in a text.
    """

    section: type[S]
    called: str
    reads: str = ITEMS
    facts: Callable[[S, Ends], ModelFacts]
    cuts: Callable[[S], Cuts]
    parts: str
    problems: Callable[[str, S, LayoutConfig], Iterator[Problem]] = lambda _where, _section, _layout: iter(())
    check: Callable[[str, S, LayoutConfig], None] = lambda _where, _section, _layout: None
    can_cut: Callable[[S, int], bool] = lambda _section, _tp: True
    rules: Callable[[S], tuple[TensorRule, ...]] = lambda _section: ()
    initial: Callable[[S], tuple[Initial, ...]] = lambda _section: ()
    given: Callable[[S], Given | None] = lambda _section: None
    takes: Callable[[S], str] | None = None
    intake: Callable[[str, S, str], Intake] | None = None
    whole: str = ""
    fixed: tuple[str, ...] = ()
    is_pure: bool = True
    resolved: Callable[[S], Mapping[str, Any]] = lambda _section: {}
    idle: Callable[[S], Collection[str]] = lambda _section: ()
    steers: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def reads_documents(self) -> bool:
        """Whether it reads documents, and so has the main loss."""
        return self.reads == DOCUMENTS

    @property
    def reads_items(self) -> bool:
        """Whether items of a modality enter."""
        return self.reads == ITEMS
