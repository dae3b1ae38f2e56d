"""The models of a search: what each part does and keeps under any degrees, by the rules that plans follow."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, final

from counterpoint.config.schema import Config, PrecisionConfig, ScheduleConfig
from counterpoint.plan.cost import Load
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork, works_of
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute, config_of
from counterpoint.setup.plan import Described, lay_out, split_parts
from counterpoint.simulate.operations import PartOperations, Setting, kept_bytes, part_operations, setting_of
from counterpoint.simulate.prices import Execution
from counterpoint.simulate.sizes import BYTES


class Size(NamedTuple):
    """Parameters of a module: all of them, those that are trained, and the values that are stored for them: themselves
    and the optimizer's moments."""

    all: float
    trained: float
    kept: float


@final
@dataclass(frozen=True)
class Models:
    """The models of a config, whatever their layouts are."""

    config: Config
    described: Described
    execution: Execution
    _alone: dict[Recompute, Plan] = field(default_factory=dict, repr=False)
    _splits: dict[tuple[str, int], tuple[tuple[int, int], ...]] = field(default_factory=dict, repr=False)
    _again: dict[tuple[str, Recompute], tuple[bool, ...]] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[str, Recompute], float] = field(default_factory=dict, repr=False)
    _sizes: dict[str, tuple[Size, Size]] = field(default_factory=dict, repr=False)
    _lanes: dict[tuple[str, int, int, int, int], Layout] = field(default_factory=dict, repr=False)
    _settings: dict[object, Setting] = field(default_factory=dict, repr=False)

    @property
    def is_compiled(self) -> bool:
        """Whether layers are compiled."""
        return self.on_one_rank(Recompute()).path == "compiled"

    @property
    def precision(self) -> PrecisionConfig:
        """The data types of the training."""
        return self.config.training.precision

    @property
    def stored_bytes(self) -> int:
        """Bytes of a stored parameter or moment."""
        return BYTES[self.precision.parameters]

    @property
    def summed_bytes(self) -> int:
        """Bytes of a gradient until it is summed."""
        return BYTES[self.precision.reduce]

    @property
    def value_bytes(self) -> int:
        """Bytes of a value in forward and backward."""
        return BYTES[self.precision.compute]

    def on_one_rank(self, recompute: Recompute) -> Plan:
        """The plan of all modules on one rank, each computing the same again."""
        if recompute not in self._alone:
            choice = Choice(range(1), Degrees(), recompute)
            choices = tuple((name, choice) for name in self.described.graph.modules)
            laid = config_of(self.config, 1, Candidate(choices, ScheduleConfig()))
            self._alone[recompute] = lay_out(laid, self.described)
        return self._alone[recompute]

    def splits(self, module: str, count: int) -> tuple[tuple[int, int], ...]:
        """The runs of parts of a module that is cut into a number of stages."""
        if (module, count) not in self._splits:
            choice = Choice(range(count), Degrees(pp=count), Recompute())
            laid = config_of(self.config, count, Candidate(((module, choice),), ScheduleConfig()))
            self._splits[module, count] = split_parts(laid, module, self.described.facts[module])
        return self._splits[module, count]

    def operations(
        self, module: str, part: int, degrees: Degrees, recompute: Recompute, load: Load, rows: int
    ) -> PartOperations:
        """What a part does on one of the ranks that share `rows` of a lane's load."""
        work = self.works[module][part]
        lane = (degrees.cp, degrees.tp, degrees.ep, degrees.etp)
        key = (module, self.kinds[module][part], recompute, lane)
        if key not in self._settings:
            self._settings[key] = setting_of(
                self.on_one_rank(recompute), Node(module, 0), work.facts.name, self.lane(module, degrees),
                self.value_bytes, overlaps_products=self.execution.overlaps_products,
            )  # fmt: skip
        return part_operations(work, load, rows, self._settings[key])

    def lane(self, module: str, degrees: Degrees) -> Layout:
        """A layout of as few ranks as hold all experts, whose lanes are cut like this."""
        key = (module, degrees.cp, degrees.tp, degrees.ep, degrees.etp)
        if key not in self._lanes:
            experts = degrees.ep * degrees.etp
            self._lanes[key] = Layout(
                module=module, ranks=tuple(range(degrees.cp * degrees.tp * experts)), dp_shard=experts,
                cp=degrees.cp, tp=degrees.tp, ep=degrees.ep, etp=degrees.etp,
                sequence_parallel=self.config.modules[module].layout.sequence_parallel,
            )  # fmt: skip
        return self._lanes[key]

    @cached_property
    def works(self) -> dict[str, tuple[PartWork, ...]]:
        """The work of every part of every module."""
        return works_of(self.on_one_rank(Recompute()))

    @cached_property
    def kinds(self) -> dict[str, tuple[int, ...]]:
        """For each part of a module the place of the first one that does the same work."""
        found = {}
        for name, works in self.works.items():
            firsts: dict[object, int] = {}
            alike = (replace(work, facts=replace(work.facts, name="")) for work in works)
            # Parts after the last one that mixes rows may have fewer rows.
            keys = ((each, place > self.last_mixing[name]) for place, each in enumerate(alike))
            found[name] = tuple(firsts.setdefault(key, place) for place, key in enumerate(keys))
        return found

    @cached_property
    def last_mixing(self) -> dict[str, int]:
        """The place of each module's last part that mixes rows, or sends them to experts; of a module that is no sink,
        its last part, since all of its rows are needed."""
        sink = self.described.graph.sinks[0]
        return {
            name: max((n for n, part in enumerate(facts.parts) if part.mixers or part.mixtures), default=-1)
            if name == sink
            else len(facts.parts)
            for name, facts in self.described.facts.items()
        }

    def kept_bytes(self, module: str, recompute: Recompute) -> float:
        """Bytes per row that all parts of a module keep for backward."""
        if (module, recompute) not in self._kept:
            plan, parts = self.on_one_rank(recompute), self.described.facts[module].parts
            each = (kept_bytes(plan, module, part.name, self.value_bytes) for part in parts)
            self._kept[module, recompute] = sum(each)
        return self._kept[module, recompute]

    def computed_again(self, module: str, recompute: Recompute) -> tuple[bool, ...]:
        """Whether each part of a module runs again in backward."""
        if (module, recompute) not in self._again:
            plan, parts = self.on_one_rank(recompute), self.described.facts[module].parts
            self._again[module, recompute] = tuple(plan.is_recomputed(module, part.name) for part in parts)
        return self._again[module, recompute]

    @cached_property
    def working_elements(self) -> dict[str, int]:
        """The most values per row that a part of each module makes while it works."""
        return {
            name: max((part.activation_elements for part in facts.parts), default=0)
            for name, facts in self.described.facts.items()
        }

    @cached_property
    def part_sizes(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Parameters of each part that are no experts', and those of experts."""
        return {
            name: tuple((part.parameters - part.expert_parameters, part.expert_parameters) for part in facts.parts)
            for name, facts in self.described.facts.items()
        }

    def sizes(self, module: str) -> tuple[Size, Size]:
        """The parameters of a module that are no experts', and those of experts."""
        if module not in self._sizes:
            dense, routed = Size(0.0, 0.0, 0.0), Size(0.0, 0.0, 0.0)
            for number, part in enumerate(self.described.facts[module].parts):
                share = self.described.trained[module][number].elements / max(part.parameters, 1)
                moments = self.described.updates[module][number].moments
                experts = part.expert_parameters
                dense = _more(dense, part.parameters - experts, share, moments)
                routed = _more(routed, experts, share, moments)
            self._sizes[module] = dense, routed
        return self._sizes[module]


def _more(size: Size, count: int, trained: float, moments: float) -> Size:
    return Size(size.all + count, size.trained + count * trained, size.kept + count * (1.0 + trained * moments))
