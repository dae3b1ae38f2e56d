"""The space of a search: what each key may be, as far as the plan's own rules allow it.

A module's degrees multiply to the number of its ranks; whether its model can be cut by them, its family, the checks of
configs and the layout say, not this file. What it leaves out on purpose stands in constants and docstrings here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, final

from counterpoint.config.checks import config_problems
from counterpoint.config.graph import unreached
from counterpoint.config.modules import module_problems
from counterpoint.config.schema import Config, ScheduleConfig
from counterpoint.config.steps import step_problems
from counterpoint.errors import InputError
from counterpoint.families import family_of
from counterpoint.plan.activations import PARTS
from counterpoint.plan.kept import ATTENTION
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute, config_of, idle_of, laid
from counterpoint.search.placements import Placed, placements
from counterpoint.setup.plan import Described

CHUNKS = (1, 2, 3, 4)
"""Stages of one module on a rank."""

BATCH = "training.global_batch_samples"
"""The rule that leaves out what has more lanes than a step has packs."""

_AXES = ("tp", "cp", "pp", "ep", "etp")


@final
@dataclass(frozen=True)
class Space:
    """All candidates for a config on `world_size` ranks, of which `node_size` share a node.

    `held` are keys that stay as the config has them, `kinds` the schedules that may be chosen, and `samples` the fewest
    packs of a step, no fewer than lanes times microbatches. Tensor parallelism stays within a node. `refused` counts
    the choices that a rule of the plan refused, by the rule's key.
    """

    config: Config
    described: Described
    world_size: int
    node_size: int
    samples: int
    held: Mapping[str, Any]
    kinds: tuple[str, ...]
    refused: Counter[str] = field(default_factory=Counter)
    _allowed: dict[tuple[str, Degrees], bool] = field(default_factory=dict, repr=False)
    _degrees: dict[tuple[str, int], tuple[Degrees, ...]] = field(default_factory=dict, repr=False)
    _firsts: dict[int, ScheduleConfig] = field(default_factory=dict, repr=False)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Modules in topological order, the sink last."""
        return self.described.graph.modules

    @property
    def sink(self) -> str:
        """The module that reads documents."""
        return self.described.graph.sinks[0]

    @cached_property
    def placements(self) -> tuple[Placed, ...]:
        """Where modules may be, colocated first."""
        kept = {
            name: _run(self.held[key]) for name in self.modules if (key := f"modules.{name}.layout.ranks") in self.held
        }
        overlap, idle = self.config.world.partial_overlap, idle_of(self.config, self.world_size)
        return tuple(placements(self.world_size, self.modules, kept, partial_overlap=overlap, idle=idle))

    def degrees(self, module: str, ranks: int) -> tuple[Degrees, ...]:
        """How a module may be cut over a number of ranks, without chunks unless these are held or needed."""
        if (module, ranks) not in self._degrees:
            self._degrees[module, ranks] = tuple(self._cuts(module, ranks))
        return self._degrees[module, ranks]

    def _cuts(self, module: str, ranks: int) -> Iterator[Degrees]:
        axes = self._axes[module]
        for tp, cp, pp in product(*(axes[axis] for axis in ("tp", "cp", "pp"))):
            dp, rest = divmod(ranks, tp * cp * pp)
            if rest or not dp:
                continue
            if dp > self.samples:
                self.refused[BATCH] += 1
                continue
            chunks = self._least_chunks(module, pp)
            if chunks is None or not self.allows(module, Degrees(pp=pp, cp=cp, tp=tp)):
                continue
            for ep, etp in product(axes["ep"], axes["etp"]):
                # Experts are cut as all products of the module are, or not at all.
                if etp not in (1, tp) or dp * cp * tp % (ep * etp):
                    continue
                for replicate, reshard in product(self._replicas(module, dp, cp * tp), (False, True)):
                    degrees = Degrees(pp, replicate, dp // replicate, cp, tp, ep, etp, chunks, reshard)
                    if reshard and degrees.dp_shard * cp == degrees.edp == 1:
                        continue
                    if self._keeps(module, degrees) and self.allows(module, degrees):
                        yield degrees

    def _replicas(self, module: str, dp: int, lane: int) -> list[int]:
        """Replicas of the sharded parameters: one, or each on one node, or on eight."""
        key = f"modules.{module}.layout.dp_replicate"
        if key in self.held:
            return [self.held[key]] if dp % self.held[key] == 0 else []
        found = [1]
        for nodes in (8, 1):
            shards = max(nodes * self.node_size // lane, 1)
            if shards < dp and dp % shards == 0:
                found.append(dp // shards)
        return found

    def chunks(self, module: str, degrees: Degrees) -> Iterator[Degrees]:
        """The same degrees with other numbers of chunks."""
        for count in CHUNKS:
            other = degrees._replace(chunks=count)
            is_held = self._holds(module, "chunks", count) and self._keeps_split(module, other)
            if other != degrees and is_held and self.allows(module, other):
                yield other

    def _least_chunks(self, module: str, pp: int) -> int | None:
        """The chunks that are held, else 1, or more where they or the stages of a held split need them; None where they
        cannot be had."""
        key = f"modules.{module}.layout.chunks"
        wanted = (self.held[key],) if key in self.held else CHUNKS if pp > 1 else CHUNKS[:1]
        for count in wanted[module == self._chunked :]:
            degrees = Degrees(pp=pp, chunks=count)
            if self._keeps_split(module, degrees) and self.allows(module, degrees):
                return int(count)
        return None

    def _keeps_split(self, module: str, degrees: Degrees) -> bool:
        """Whether a held split, if it is a list, is for as many stages."""
        split = self.held.get(f"modules.{module}.layout.split", "even")
        return bool(split == "even" or len(split) == degrees.pp * degrees.chunks)

    @cached_property
    def _chunked(self) -> str | None:
        """The module that must have chunks: where every schedule needs them the last one that can, unless others are
        held to have some."""
        if not SCHEDULES[self.first_schedule.kind].needs_chunks:
            return None
        if any(self.held.get(f"modules.{name}.layout.chunks", 1) > 1 for name in self.modules):
            return None
        for name in reversed(self.modules):
            if any(next(self.chunks(name, Degrees(pp=pp)), None) for pp in self._axes[name]["pp"] if pp > 1):
                return name
        return None

    @cached_property
    def _axes(self) -> dict[str, dict[str, list[int]]]:
        """Degrees of each module and axis that a rule does not refuse on its own."""
        found: dict[str, dict[str, list[int]]] = {}
        for name in self.modules:
            found[name] = {}
            for axis in _AXES:
                key = f"modules.{name}.layout.{'expert.' if axis in ('ep', 'etp') else ''}{axis}"
                most = self.node_size if axis in ("tp", "etp") else self.world_size
                wanted = [self.held[key]] if key in self.held else range(1, min(most, self._most(name, axis)) + 1)
                found[name][axis] = [d for d in wanted if d == 1 or self.allows(name, _alone(axis, d))]
        return found

    def _most(self, module: str, axis: str) -> int:
        """No degree divides what is smaller than it."""
        model = self.config.modules[module].model
        cuts = family_of(model).cuts(model)
        sizes = {"tp": cuts.tp, "cp": cuts.cp, "ep": cuts.ep, "etp": cuts.etp}.get(axis)
        return model.num_layers if sizes is None else min(sizes.values(), default=1)

    def allows(self, module: str, degrees: Degrees) -> bool:
        """Whether no rule of the plan refuses degrees for a module."""
        # The rules ask neither for the number of lanes nor for how these keep parameters.
        key = (module, degrees._replace(dp_replicate=1, dp_shard=1, reshard=False))
        if key not in self._allowed:
            section = laid(self.config, module, Choice((), key[1], Recompute()))
            problem = next(iter(module_problems(module, section)), None)
            self._allowed[key] = problem is None and self._passes(module, section)
            if problem is not None:
                self.refused[problem.path] += 1
        return self._allowed[key]

    def _passes(self, module: str, section: Any) -> bool:
        try:
            family_of(section.model).check(f"modules.{module}", section.model, section.layout)
        except InputError:
            self.refused[f"modules.{module}.model"] += 1
            return False
        return True

    def _keeps(self, module: str, degrees: Degrees) -> bool:
        return self._holds(module, "dp_shard", degrees.dp_shard) and self._holds(module, "reshard", degrees.reshard)

    def _holds(self, module: str, key: str, value: object) -> bool:
        """Whether a held key, if it is one, has this value."""
        return bool(self.held.get(f"modules.{module}.layout.{key}", value) == value)

    @cached_property
    def recomputes(self) -> dict[str, tuple[Recompute, ...]]:
        """What each module may compute again: nothing, cheap parts, its layers but for attention's kernel, or all."""
        return {name: tuple(self._recomputes(name)) for name in self.modules}

    def _recomputes(self, module: str) -> Iterator[Recompute]:
        section, parts = self.config.modules[module], self.described.facts[module].parts
        if f"modules.{module}.recompute" in self.held:
            yield Recompute(section.recompute, section.recompute_keeps)
            return
        yield Recompute()
        if module in unreached(self.config):
            return
        known = {one.of for part in parts if part.kinds for one in part.kept.plain}
        if cheap := tuple(name for name in PARTS if name in known):
            yield Recompute(cheap)
        if section.model.layer_kinds:
            if any(one.of == ATTENTION for part in parts for one in part.kept.plain):
                yield Recompute("full", ("attention",))
            yield Recompute("full")

    def microbatches(self, degrees: Degrees) -> tuple[int, ...]:
        """How many microbatches a step may have if the sink is cut like this: powers of two, as many as keep a pipeline
        full, and one pack for each lane in each of them."""
        if "schedule.microbatches" in self.held:
            return (self.held["schedule.microbatches"],)
        most = self.samples // degrees.dp
        useful = min(most, _ROUNDS * degrees.pp)
        powers = [1 << exponent for exponent in range(useful.bit_length()) if 1 << exponent <= useful]
        return tuple(sorted({*powers, most})) if most else ()

    @cached_property
    def first_schedule(self) -> ScheduleConfig:
        """The schedule with which layouts are compared first: what is held, else 1F1B, or a kind that takes layouts
        without chunks too, and every key's default."""
        given = {key.partition(".")[2]: value for key, value in self.held.items() if key.startswith("schedule.")}
        first = min(self.kinds, key=lambda kind: (kind != _FIRST, SCHEDULES[kind].needs_chunks))
        kind = given.pop("kind", first)
        return ScheduleConfig().model_copy(update={"kind": kind, **given})

    def first_of(self, microbatches: int) -> ScheduleConfig:
        """The first schedule with so many microbatches."""
        if microbatches not in self._firsts:
            self._firsts[microbatches] = self.first_schedule.model_copy(update={"microbatches": microbatches})
        return self._firsts[microbatches]

    def schedules(self, candidate: Candidate) -> Iterator[ScheduleConfig]:
        """The schedules that a candidate's layouts may have instead of its own, with as many microbatches."""
        own = candidate.schedule
        first = self.first_schedule.kind
        options: dict[str, Sequence[Any]] = {"kind": (first, *(kind for kind in self.kinds if kind != first))}
        if len(self.modules) > 1:
            groups = [1 << exponent for exponent in range(own.microbatches.bit_length())]
            options |= {
                "encoder": ("just_in_time", "first", "fill"),
                "encoder_group": [group for group in groups if group <= min(own.microbatches, _MOST_GROUP)],
                "buffer": (None, 1, 2, 4),
                "run_ahead": (0, 1) if set(unreached(self.config)) - {self.sink} else (0,),
            }
        options |= {key: (self.held[f"schedule.{key}"],) for key in options if f"schedule.{key}" in self.held}
        for values in product(*options.values()):
            schedule = own.model_copy(update=dict(zip(options, values, strict=True)))
            if SCHEDULES[schedule.kind].needs_chunks and all(c.degrees.chunks == 1 for _n, c in candidate.choices):
                continue
            yield schedule

    def problem(self, candidate: Candidate) -> str | None:
        """Why the plan's rules refuse a candidate as a whole, if they do."""
        config = config_of(self.config, self.world_size, candidate)
        problem = next(step_problems(config), None)
        if problem is None:
            problem = next(iter(config_problems(config)), None)
        return None if problem is None else problem.path

    def candidates(self, placed: Placed) -> Iterator[Candidate]:
        """All layouts on a placement, with every recomputation and number of microbatches, on the first schedule."""
        options = [
            [Choice(ranks, degrees, recompute) for degrees in self.degrees(name, len(ranks)) for recompute in again]
            for name, ranks in placed.ranks
            for again in (self.recomputes[name],)
        ]
        for choices in product(*options):
            named = tuple(zip(self.modules, choices, strict=True))
            for count in self.microbatches(choices[-1].degrees):
                yield Candidate(named, self.first_of(count))


_FIRST = "1f1b"
_ROUNDS = 8
"""Times as many microbatches as stages of a pipeline, beyond which its ends take little of a step."""
_MOST_GROUP = 8


def _run(ranks: tuple[int, ...]) -> Sequence[int]:
    """Consecutive ranks as a range, others as they are."""
    run = range(ranks[0], ranks[-1] + 1) if ranks else range(0)
    return run if tuple(run) == ranks else ranks


def _alone(axis: str, degree: int) -> Degrees:
    """A degree along one axis, and 1 along all others."""
    changed: dict[str, Any] = {axis: degree}
    return Degrees()._replace(**changed)
