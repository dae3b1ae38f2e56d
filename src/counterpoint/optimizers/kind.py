"""What a kind of optimizer says of itself, without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from counterpoint.kinds.named import named
from counterpoint.kinds.sections import sections_in
from counterpoint.optimizers.rates import LEARNING_RATES, DecaySection, LearningRateSection
from counterpoint.section.of_kind import OfKind
from counterpoint.section.section import Positive, Section, Text

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from counterpoint.optimizers.shard import Shard, Update


Schedule = Annotated[LearningRateSection, OfKind(sections_in(LEARNING_RATES), default="constant")]
"""The section of a kind of learning rate."""


class GroupSection(Section):
    """The base of the sections of groups: parameters of a module by name, and what holds for them instead."""

    match: Text
    """Shell-style pattern of parameter names inside the module; it fits at least one trained parameter that no group
    before it has."""
    lr: Positive | None = None
    """Highest learning rate of the group (null: that of the module). No unit."""
    schedule: Schedule | None = None
    """How the learning rate of the group changes over the steps (null: as that of the module)."""


class OptimizerSection(Section):
    """The base of the sections of optimizers: the kind, the learning rate over the steps, and groups of parameters."""

    kind: str
    """The optimizer."""
    lr: Positive
    """Highest learning rate, reached after warm-up. No unit."""
    schedule: Schedule = DecaySection()
    """How the learning rate changes over the steps; its key `kind` names the shape."""
    groups: Annotated[tuple[GroupSection, ...], Field(strict=False)] = ()
    """Parameters by patterns of their names, with other values of some keys; the first pattern that fits wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerKind:
    """A kind of optimizer: its section, and the `moments` that it keeps of each parameter.

    A moment is a tensor of the parameter's shape and dtype of storage, cut as the parameter is; checkpoints hold it by
    its name, and estimates of memory count it. `update` is the place, `package.module:name`, of what makes an `Update`
    of a section and the shards of a rank; `plain` that of what makes torch's optimizer, or one like it, of a section
    and whole parameters by name: `verify` compares the two, so they share nothing.
    """

    section: type[OptimizerSection]
    moments: tuple[str, ...]
    update: str
    plain: str

    def build(self, section: OptimizerSection, shards: Sequence["Shard"]) -> "Update":
        """What updates the shards of a module on one rank."""
        update: Update = named(self.update)(section, shards)
        return update

    def build_plain(self, section: OptimizerSection, parameters: "Mapping[str, Parameter]") -> "Optimizer":
        """The optimizer of `verify`'s reference, of whole parameters by their names in the module."""
        plain: Optimizer = named(self.plain)(section, parameters)
        return plain
