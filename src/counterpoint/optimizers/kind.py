"""What a kind of optimizer says of itself, without torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from counterpoint.kinds.drawn import Drawn, nothing_drawn
from counterpoint.kinds.named import named
from counterpoint.kinds.sections import sections_in
from counterpoint.optimizers.rates import LEARNING_RATES, DecaySection, LearningRateSection
from counterpoint.section.of_kind import OfKind
from counterpoint.section.section import Positive, Section, Text

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from counterpoint.optimizers.shard import Shard, Team, Update


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
    """A kind of optimizer: its section, and the names of the `moments` that it keeps of a parameter.

    A moment is a tensor of the parameter's shape and dtype of storage, cut as the parameter is; checkpoints hold it by
    its name, and estimates of memory count it. Where the update of a parameter `exchanges` anything, the ranks of its
    stage do so on a communicator of theirs, which proofs know. Both are asked with a section, the parameter's name in
    its module and its whole shape. `update` is the place, `package.module:name`, of what makes an `Update` of a
    section, the shards of a rank and its team; `plain` that of what makes torch's optimizers, or ones like them, of a
    section and whole parameters by name: `verify` compares the two, so they share nothing. `drawn` are values of the
    section's further keys for `verify --random`.

    The keys in `patterns` hold patterns of names in the module. One that fits no parameter is refused, unless it is a
    default.
    """

    section: type[OptimizerSection]
    moments: Callable[[Any, str, tuple[int, ...]], tuple[str, ...]]
    exchanges: Callable[[Any, str, tuple[int, ...]], bool] = lambda _section, _name, _shape: False
    update: str
    plain: str
    drawn: Drawn = nothing_drawn
    patterns: tuple[str, ...] = ()

    def given_patterns(self, section: OptimizerSection) -> Iterator[tuple[str, str]]:
        """The patterns of names that are no defaults, each with its key in the section, such as `adamw_for.0`."""
        for key in self.patterns:
            defaults = type(section).model_fields[key].default
            for number, pattern in enumerate(getattr(section, key)):
                if pattern not in defaults:
                    yield f"{key}.{number}", pattern

    def build(self, section: OptimizerSection, shards: Sequence["Shard"], team: "Team") -> "Update":
        """What updates the shards of some parameters of a module on one rank, of which the team has all."""
        update: Update = named(self.update)(section, shards, team)
        return update

    def build_plain(self, section: OptimizerSection, parameters: "Mapping[str, Parameter]") -> "tuple[Optimizer, ...]":
        """The optimizers of `verify`'s reference, of whole parameters by their names in the module."""
        plain: tuple[Optimizer, ...] = named(self.plain)(section, parameters)
        return plain
