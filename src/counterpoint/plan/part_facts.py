"""Facts of a part of a model before it is built: tensors, work and memory, per row of the module's input."""

from dataclasses import dataclass

from counterpoint.plan.cost import Load, PairFlops
from counterpoint.plan.tensors import Tensors, elements

EXPERTS = ".experts."
"""Occurs in the names of routed experts' parameters."""

ENCODER_LAYER = "L"
"""The kind of an encoder's layers; a decoder's have the letters of its pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part, per row of the module's input.

    `tensors` are its parameters. `flops_per_row` and `flops_per_pair` count the forward pass, a multiplication and an
    addition as two; a pair is a query and a key that its mask lets it see. `flops_per_item` counts what is computed
    once for an item of any size. `activation_elements` estimates what forward keeps for backward. The part returns
    `hidden_out` values for every `rows_per_output` of the module's input rows. A row uses `active_expert_parameters` of
    the routed experts' parameters. `mixtures` are (name inside the part, number of experts) of its mixtures of experts,
    `kinds` the kinds of its layers, by their letters. `attended_elements` are what attention's kernel makes for
    backward, its output and log-sum-exp. `discardable` are (cheap part, elements) of what need not be kept.
    """

    name: str
    kinds: tuple[str, ...] = ()
    tensors: Tensors = ()
    flops_per_row: int = 0
    flops_per_pair: PairFlops = ()
    flops_per_item: int = 0
    activation_elements: int
    hidden_out: int
    rows_per_output: int = 1
    active_expert_parameters: int = 0
    attended_elements: int = 0
    discardable: tuple[tuple[str, int], ...] = ()
    mixtures: tuple[tuple[str, int], ...] = ()

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
    """A part whose work is negligible: a lookup or a norm."""
    return PartFacts(name=name, tensors=tensors, activation_elements=hidden, hidden_out=hidden)
