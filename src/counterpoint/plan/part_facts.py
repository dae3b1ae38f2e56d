"""What is known of a part of a model before it is built: tensors, work and memory, per row of the module's input."""

from dataclasses import dataclass

from counterpoint.plan.tensors import Tensors, elements

EXPERTS = ".experts."
"""What is in the names of routed experts."""

ENCODER_LAYER = "L"
"""The kind of an encoder's layers; a decoder's have the letters of its pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part, per row of the module's input.

    `tensors` are its parameters. `flops_per_row` and `flops_per_pair` count the forward pass, a multiplication and an
    addition as two; a pair is a query and a key that it sees. Attention in windows sees `window` rows, 0 for the whole
    item. `activation_elements` estimates what forward keeps for backward. The part hands on `hidden_out` values for
    every `rows_per_output` of the module's input rows. Of the routed experts' parameters a row meets
    `active_expert_parameters`; `mixtures` are the names inside the part of what routes rows, with numbers of experts.
    The layers that it is made of are of these `kinds`, by their letters.
    """

    name: str
    kinds: tuple[str, ...] = ()
    tensors: Tensors = ()
    flops_per_row: int = 0
    flops_per_pair: int = 0
    window: int = 0
    activation_elements: int
    hidden_out: int
    rows_per_output: int = 1
    active_expert_parameters: int = 0
    mixtures: tuple[tuple[str, int], ...] = ()

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(count for _name, count in elements(self.tensors))

    @property
    def expert_parameters(self) -> int:
        """Elements of the routed experts' tensors."""
        return sum(count for name, count in elements(self.tensors) if EXPERTS in name)

    def cost(self, rows: int, pairs: int) -> int:
        """Forward FLOPs on `rows` rows with `pairs` query-key pairs."""
        seen = rows * self.window if self.window else pairs
        return self.flops_per_row * rows + self.flops_per_pair * seen


def light(name: str, tensors: Tensors, hidden: int) -> PartFacts:
    """A part whose work is negligible: a lookup or a norm."""
    return PartFacts(name=name, tensors=tensors, activation_elements=hidden, hidden_out=hidden)
