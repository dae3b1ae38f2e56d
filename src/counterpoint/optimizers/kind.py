"""The description of a kind of optimizer, without torch."""

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
"""The section of any registered learning-rate schedule."""


class GroupSection(Section):
    """The base of the sections of parameter groups, whose keys replace those of the module."""

    match: Text
    """Shell-style pattern of parameter names inside the module; at least one trained parameter must match it that no
    earlier group has."""
    lr: Positive | None = None
    """Highest learning rate of the group; null: that of the module. No unit."""
    schedule: Schedule | None = None
    """Learning-rate schedule of the group; null: that of the module."""


class OptimizerSection(Section):
    """The base of the sections of optimizers: kind, learning rate, learning-rate schedule and parameter groups."""

    kind: str
    """The optimizer."""
    lr: Positive
    """Highest learning rate, reached after warm-up. No unit."""
    schedule: Schedule = DecaySection()
    """Learning-rate schedule; its key `kind` selects the curve."""
    groups: Annotated[tuple[GroupSection, ...], Field(strict=False)] = ()
    """Parameter groups by name pattern, each with its own values of some keys; the first match counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerKind:
    """A kind of optimizer.

    `moments(section, name, shape)` are the names of the tensors that it keeps for a parameter. Each has the parameter's
    shape and sharding; checkpoints store it, and memory estimates count it. `moment_bytes(section)` is the size of one
    of its elements, None for that of the stored parameters, whose dtype it then has. `exchanges(section, name,
    shape)` says whether updating the parameter communicates; the ranks of a stage then get a communicator, which proofs
    include. `name` is the parameter's name in its module, `shape` its global shape.

    `update` and `plain` are strings `package.module:name`. `update` names a function of (section, shards of a rank,
    team) that returns an `Update`; `plain` one of (section, whole parameters by name) that returns torch optimizers, or
    objects like them. `verify` compares the two, so they must share no code.

    `drawn` returns values of the section's further keys for `verify --random`. The keys in `patterns` hold name
    patterns of parameters; a pattern that is no default must match at least one parameter.
    """

    section: type[OptimizerSection]
    moments: Callable[[Any, str, tuple[int, ...]], tuple[str, ...]]
    moment_bytes: Callable[[Any], int | None] = lambda _section: None
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
        """The `Update` of some parameters' shards on one rank; the ranks of `team` together hold all shards."""
        update: Update = named(self.update)(section, shards, team)
        return update

    def build_plain(self, section: OptimizerSection, parameters: "Mapping[str, Parameter]") -> "tuple[Optimizer, ...]":
        """The optimizers of `verify`'s reference, for whole parameters by their names in the module."""
        plain: tuple[Optimizer, ...] = named(self.plain)(section, parameters)
        return plain
