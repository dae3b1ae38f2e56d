"""Facts of a part of a model before it is built: tensors, work and memory, per row of the module's input."""

from dataclasses import dataclass
from math import ceil

from counterpoint.plan.cost import Load, PairFlops
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps, Kept
from counterpoint.plan.tensors import Tensors, elements

EXPERTS = ".experts."
"""Occurs in the names of routed experts' parameters."""

ENCODER_LAYER = "L"
"""The kind of an encoder's layers; a decoder's have the letters of its pattern."""


@dataclass(frozen=True, slots=True)
class Mixer:
    """The shape of a core that mixes the rows of a document: `heads` of `width` columns, of which `groups` share what
    the others read; `state` values are carried along for each column of a scan, none by attention."""

    heads: int
    groups: int
    width: int
    state: int = 0

    @property
    def columns(self) -> int:
        """Columns of all heads."""
        return self.heads * self.width

    @property
    def shared_columns(self) -> int:
        """Columns of what the heads of a group share: keys and values, or what writes and reads the state."""
        return 2 * self.groups * (self.state or self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part, per row of the module's input.

    `tensors` are its parameters. `flops_per_row` and `flops_per_pair` count the forward pass, a multiplication and an
    addition as two; a pair is a query and a key that its mask lets it see. `flops_per_item` counts what is computed
    once for an item of any size. The part returns `hidden_out` values for every `rows_per_output` of the module's input
    rows. A row uses `active_expert_parameters` of the routed experts' parameters. `mixtures` are (name inside the part,
    number of experts) of its mixtures of experts, `kinds` the kinds of its layers, by their letters.

    `kept` are the tensors that forward keeps for backward; the rows that enter a part count as its own. `kept_matrix`
    are the elements of a matrix, of at least float32, that is kept once for all rows. `working` is what backward has at
    once beside that and the gradients of the products with the part's weights. `groups` are heads of keys and values,
    which tp may cut into fewer pieces than it has ranks. The head `scores` its rows against that many words, and
    computes its gradients together with its forward; it, and parts before it that work row by row, are `labelled`: they
    see only rows with a label. `mixers` are the cores that mix rows.
    """

    name: str
    kinds: tuple[str, ...] = ()
    tensors: Tensors = ()
    flops_per_row: int = 0
    flops_per_pair: PairFlops = ()
    flops_per_item: int = 0
    hidden_out: int
    rows_per_output: int = 1
    active_expert_parameters: int = 0
    mixtures: tuple[tuple[str, int], ...] = ()
    kept: Keeps = KEEPS_NOTHING
    kept_matrix: int = 0
    working: tuple[Kept, ...] = ()
    groups: int = 0
    scores: int = 0
    labelled: bool = False
    mixers: tuple[Mixer, ...] = ()

    @property
    def activation_elements(self) -> int:
        """Elements that forward keeps of a row in plain torch, whatever their dtype."""
        return ceil(sum(one.elements for one in self.kept.plain if one.is_kept()))

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(count for _name, count in elements(self.tensors))

    @property
    def expert_parameters(self) -> int:
        """Elements of the routed experts' tensors."""
        return sum(count for name, count in elements(self.tensors) if EXPERTS in name)

    def flops_of_rows(self, load: Load) -> int:
        """Forward FLOPs of a load's rows, and of what is computed once for each item."""
        return self.flops_per_row * load.rows + self.flops_per_item * load.count

    def flops_of_pairs(self, load: Load) -> int:
        """Forward FLOPs of a load's query-key pairs."""
        return sum(flops * load.pairs(mask) for mask, flops in self.flops_per_pair)


def light(name: str, tensors: Tensors, hidden: int) -> PartFacts:
    """A part whose work is negligible and which keeps its rows: a norm."""
    return PartFacts(name=name, tensors=tensors, kept=Keeps.alike(Kept(hidden, cut="rows")), hidden_out=hidden)
