"""A candidate: the ranks and degrees of every module, what it computes again, and the schedule of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from counterpoint.config.schema import Config, ScheduleConfig
from counterpoint.section.layout import ExpertLayoutConfig

LAID_OUT = ("pp", "dp_replicate", "dp_shard", "cp", "tp", "chunks", "reshard")
"""Keys of a layout that are its degrees, beside those of experts."""


class Degrees(NamedTuple):
    """How a module is cut over its ranks, as in the section `layout`."""

    pp: int = 1
    dp_replicate: int = 1
    dp_shard: int = 1
    cp: int = 1
    tp: int = 1
    ep: int = 1
    etp: int = 1
    chunks: int = 1
    reshard: bool = False

    @property
    def dp(self) -> int:
        """Number of lanes."""
        return self.dp_replicate * self.dp_shard

    @property
    def lane_size(self) -> int:
        """Ranks that share a lane's rows at one stage."""
        return self.cp * self.tp

    @property
    def stage_size(self) -> int:
        """Ranks of one pipeline stage."""
        return self.dp * self.lane_size

    @property
    def edp(self) -> int:
        """Data-parallel degree of the expert view."""
        return self.stage_size // (self.ep * self.etp)

    @property
    def dense(self) -> tuple[int, ...]:
        """The degrees by which modules on the same ranks are cut alike: pp, dp, cp and tp."""
        return self.pp, self.dp, self.cp, self.tp

    def __str__(self) -> str:
        named = {"pp": self.pp, "dp": self.dp, "cp": self.cp, "tp": self.tp, "ep": self.ep, "etp": self.etp}
        named |= {"chunks": self.chunks}
        words = [f"{axis}{degree}" for axis, degree in named.items() if degree > 1] or ["1 rank"]
        words += [f"(replicated {self.dp_replicate} x)"] if self.dp_replicate > 1 else []
        return " ".join([*words, *(["reshard"] if self.reshard else [])])


class Recompute(NamedTuple):
    """The keys `recompute` and `recompute_keeps` of a module."""

    what: str | tuple[str, ...] = "none"
    keeps: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = self.what if isinstance(self.what, str) else "+".join(self.what)
        return f"{what}, keeps {'+'.join(self.keeps)}" if self.keeps else what


class Choice(NamedTuple):
    """What a candidate says of one module; `ranks` ascend."""

    ranks: Sequence[int]
    degrees: Degrees
    recompute: Recompute


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """A choice for each module, in the config's order, and one schedule."""

    choices: tuple[tuple[str, Choice], ...]
    schedule: ScheduleConfig

    @property
    def by_module(self) -> dict[str, Choice]:
        """The choices by module."""
        return dict(self.choices)

    @property
    def layout(self) -> tuple[object, ...]:
        """Where modules are and how they are cut, without what does not change which rank computes what."""
        return tuple((c.ranks, c.degrees.dense, c.degrees.ep, c.degrees.etp) for _name, c in self.choices)

    @property
    def is_homogeneous(self) -> bool:
        """Whether all modules are cut alike over the same ranks, as in trainers with one layout for all of a model."""
        alike = {(choice.ranks, choice.degrees.dense) for _name, choice in self.choices}
        return len(alike) == 1

    def with_choice(self, module: str, choice: Choice) -> "Candidate":
        """The same with another choice for one module."""
        return Candidate(tuple((n, choice if n == module else c) for n, c in self.choices), self.schedule)

    def with_schedule(self, **keys: Any) -> "Candidate":
        """The same with other values of some keys of the schedule."""
        return Candidate(self.choices, self.schedule.model_copy(update=keys))


def config_of(base: Config, world_size: int, candidate: Candidate) -> Config:
    """The config `base` with a candidate's keys, not checked."""
    world = base.world.model_copy(update={"size": world_size, "idle": idle_of(base, world_size)})
    modules = dict(base.modules)
    for name, choice in candidate.choices:
        modules[name] = laid(base, name, choice)
    return base.model_copy(update={"world": world, "modules": modules, "schedule": candidate.schedule})


def idle_of(base: Config, world_size: int) -> tuple[int, ...]:
    """The ranks without a module: those of the config in a world of its size, none in another."""
    return tuple(base.world.idle) if world_size == base.world.size else ()


def laid(base: Config, module: str, choice: Choice) -> Any:
    """The section of a module with a choice, not checked."""
    section, degrees = base.modules[module], choice.degrees
    layout = section.layout.model_copy(
        update={
            "ranks": tuple(choice.ranks),
            **{key: getattr(degrees, key) for key in LAID_OUT},
            "expert": ExpertLayoutConfig(ep=degrees.ep, etp=degrees.etp),
        }
    )
    if layout.stages != section.layout.stages:
        # A split that the file lists is for as many stages as it has.
        layout = layout.model_copy(update={"split": "even"})
    return section.model_copy(
        update={
            "layout": layout,
            "recompute": choice.recompute.what,
            "recompute_keeps": choice.recompute.keeps,
        }
    )
