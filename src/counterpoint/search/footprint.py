"""The memory of a candidate in closed form, by the bytes of parts that plans are laid out with.

What a rank stores, gathers and keeps is that of the memory model; which microbatches are in flight is what schedules
allow. The order of actions inside a step is left out: the fullest moment is taken to be the begin of a backward.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import NamedTuple, final

from counterpoint.config.schema import ScheduleConfig
from counterpoint.costs.hardware import Hardware
from counterpoint.plan.graph import Node
from counterpoint.plan.placement import Placement
from counterpoint.plan.schedule import SCHEDULES
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute
from counterpoint.search.models import Models
from counterpoint.search.workload import Workload
from counterpoint.simulate.memory import ALLOCATOR_SHARE, CONTEXT_BYTES
from counterpoint.simulate.sizes import UNIT_ELEMENTS, Held, Rows, held_part

_FEW, _MANY = 2**10, 2**40
"""Rows of a rank at which a part is looked at: what it holds grows in proportion, up to a most."""


class _Line(NamedTuple):
    """Bytes that grow with the rows of a rank: `none` without any, `each` for one, `most` at most."""

    none: float
    each: float
    most: float

    def at(self, rows: float) -> float:
        """Bytes for so many rows."""
        return min(self.none + self.each * rows, self.most)


class _Part(NamedTuple):
    """What a part keeps for backward, what of it waits for weight gradients, and what a pass needs beside it."""

    kept: _Line
    deferred: _Line
    working: _Line


class _Stage(NamedTuple):
    """A run of parts: one part of each kind with the number of those, and parameters, dense ones and those of experts:
    all, trained, with the optimizer's moments, and those of the largest part."""

    kinds: tuple[tuple[int, int], ...]
    dense: tuple[float, ...]
    routed: tuple[float, ...]


class _Place(NamedTuple):
    """Bytes of a rank at one place of a pipeline: what is always there, gradients at the end of a microbatch, what each
    of its stages keeps of one in flight, and what a pass needs beside that."""

    always: float
    gradients: float
    flying: tuple[float, ...]
    working: float


@final
@dataclass(frozen=True)
class Footprints:
    """The memory of candidates for some models, workload and machine."""

    models: Models
    work: Workload
    hardware: Hardware
    _parts: dict[object, tuple[_Part, ...]] = field(default_factory=dict, repr=False)
    _stages: dict[tuple[str, int, int], _Stage] = field(default_factory=dict, repr=False)
    _places: dict[object, tuple[_Place, ...]] = field(default_factory=dict, repr=False)
    _known: dict[object, list[tuple[float, float]]] = field(default_factory=dict, repr=False)

    def memory_bytes(self, candidate: Candidate) -> float:
        """About the bytes of the fullest rank."""
        shared: dict[Sequence[int], list[tuple[float, float]]] = {}
        after: dict[str, int] = {}
        for name, choice in reversed(candidate.choices):
            after[name] = self._stages_after(name, candidate, after)
            key = (name, choice.degrees, choice.recompute, candidate.schedule, after[name])
            if key not in self._known:
                self._known[key] = self._ends(name, choice, candidate.schedule, after[name])
            own, others = self._known[key], shared.get(choice.ranks)
            # Modules on the same ranks keep at once what waits, and run one after the other.
            both = others and [(a + b, max(x, y)) for (a, x), (b, y) in zip(others, own, strict=True)]
            shared[choice.ranks] = both or own
        used = max(waiting + working for ends in shared.values() for waiting, working in ends)
        return used * (1.0 + ALLOCATOR_SHARE) + CONTEXT_BYTES if self.hardware.device == "cuda" else used

    @cached_property
    def _targets(self) -> dict[str, tuple[str, ...]]:
        """The modules that read each module's rows, none of the sink's."""
        graph = self.models.described.graph
        return {name: tuple(edge.target for edge in graph.outgoing(name)) for name in graph.modules}

    def _stages_after(self, module: str, candidate: Candidate, after: dict[str, int]) -> int:
        """Stages from a module to the loss, of an encoder that is looked at alone the least: one. There are none where
        it and its readers have one stage each on the same ranks: a microbatch is back before the next one begins."""
        targets, choices = self._targets[module], dict(candidate.choices)
        readers = {name: choices[name] for name in targets if name in choices}
        together = (choices[module], *readers.values())
        if readers and all(_count(one.degrees) == 1 and one.ranks == together[0].ranks for one in together):
            return 0
        known = [_count(choice.degrees) + after[name] for name, choice in readers.items()]
        return max(known, default=min(len(targets), 1))

    def _ends(self, module: str, choice: Choice, schedule: ScheduleConfig, after: int) -> list[tuple[float, float]]:
        """What waits, and what a pass needs beside it, at the first and the last place of a module's pipeline."""
        last = choice.degrees.pp - 1
        count = ceil(schedule.microbatches / schedule.encoder_group) if self._targets[module] else schedule.microbatches
        splits = SCHEDULES[schedule.kind].splits
        both = self._both(module, choice, count, splits=splits)
        if not self.models.on_one_rank(choice.recompute).stages.has_backward(Node(module, 0)):
            return [(held.always, held.working) for held in both]
        found = []
        for place, held in zip((0, last), both, strict=True):
            # Split backwards let all places keep as many as the first one.
            flights = self._in_flight(module, choice.degrees, schedule, after, count, 0 if splits else place)
            flying = sum(n * size for n, size in zip(flights, held.flying, strict=True))
            # The first backward finds all microbatches in flight, the second one finds gradients too.
            # Split ones find those of the same microbatch, which are reduced after the last one.
            later = flying if splits else flying * min(1.0, (count - 1) / max(flights))
            found.append((held.always + max(flying, later + held.gradients), held.working))
            if not last:
                return found * 2
        return found

    def _in_flight(
        self, module: str, degrees: Degrees, schedule: ScheduleConfig, after: int, count: int, place: int
    ) -> list[int]:  # fmt: skip
        """The most microbatches that the stages at a place keep, as schedules bound them."""
        is_sink, group = not self._targets[module], schedule.encoder_group
        if not SCHEDULES[schedule.kind].has_bounds or (not is_sink and schedule.encoder == "first"):
            return [count] * degrees.chunks
        found = []
        for stage in range(place, _count(degrees), degrees.pp):
            most = _count(degrees) - stage + after
            if not is_sink:
                most = (most if group == 1 else -(-most // group) + 1) + (schedule.encoder == "fill")
                most = most if schedule.buffer is None else schedule.buffer
            found.append(min(count, most))
        return found

    def _both(self, module: str, choice: Choice, count: int, *, splits: bool) -> tuple[_Place, ...]:
        """The first and the last place of a module's pipeline, with `count` microbatches of its own."""
        key = (module, choice.degrees, choice.recompute, count, splits)
        if key not in self._places:
            last = choice.degrees.pp - 1
            places = [self._place(module, choice, place, count, splits=splits) for place in dict.fromkeys((0, last))]
            self._places[key] = (places[0], places[-1])
        return self._places[key]

    def _place(self, module: str, choice: Choice, place: int, count: int, *, splits: bool) -> _Place:
        degrees, facts = choice.degrees, self.models.described.facts[module]
        stages = [
            self._stage(module, *parts)
            for parts in self.models.splits(module, _count(degrees))[place :: degrees.pp]
        ]  # fmt: skip
        parts, load = self._of_parts(module, degrees, choice.recompute), self.work.modules[module]
        rows = load.heaviest_rows(count * degrees.dp) / degrees.lane_size
        own = [
            rows * load.scored if part.labelled and (part.scores or degrees.tp == 1) else rows for part in facts.parts
        ]
        flying = tuple(self._flying(parts, own, stage, splits=splits) for stage in stages)
        leaving = rows * facts.hidden * self.models.value_bytes
        copied = [self._stage(module, 0, 1)] if facts.reads_words_last and degrees.pp > 1 and place else []
        always, gradients, made = self._of_parameters(degrees, [*stages, *copied], accumulates=count > 1 or splits)
        working = max(parts[number].working.at(own[number]) for stage in stages for number, _n in stage.kinds)
        return _Place(always, gradients, tuple(each + leaving for each in flying), working + made)

    def _flying(self, parts: Sequence[_Part], rows: Sequence[float], stage: _Stage, *, splits: bool) -> float:
        kept = sum(n * parts[number].kept.at(rows[number]) for number, n in stage.kinds)
        return max(kept, sum(n * parts[number].deferred.at(rows[number]) for number, n in stage.kinds) * splits)

    def _of_parameters(
        self, degrees: Degrees, stages: Sequence[_Stage], *, accumulates: bool
    ) -> tuple[float, float, float]:
        """Bytes of parameters, with the optimizer's moments, copies, and what is gathered; of gradients that wait; and
        of those that one pass makes."""
        models, shards = self.models, degrees.dp_shard * degrees.cp
        dense, dense_trained, dense_kept, dense_most = map(sum, zip(*(each.dense for each in stages), strict=True))
        routed, routed_trained, routed_kept, routed_most = map(sum, zip(*(each.routed for each in stages), strict=True))
        experts, edp = degrees.ep * degrees.etp, degrees.edp
        is_whole = edp == 1 and not degrees.reshard
        stored = dense_kept / (degrees.tp * shards) + routed_kept / (experts * edp)
        whole = routed / experts if is_whole else 0.0
        gathered = dense / degrees.tp + routed / experts - whole
        unit = max(dense_most / degrees.tp, routed_most / experts * (not is_whole))
        held = 2 * unit if degrees.reshard else gathered
        copies = whole * models.value_bytes * (models.stored_bytes != models.value_bytes)
        always = stored * models.stored_bytes + held * models.value_bytes + copies
        ends = dense_trained / (degrees.tp * shards) + routed_trained / (experts * edp)
        all_of = dense_trained / degrees.tp + routed_trained / experts
        gradients = all_of * models.summed_bytes if accumulates else ends * models.stored_bytes
        made = min(all_of, max(unit, routed_most / experts, UNIT_ELEMENTS * (not degrees.reshard)))
        return always, gradients, made * models.value_bytes

    def _stage(self, module: str, start: int, stop: int) -> _Stage:
        key = (module, start, stop)
        if key not in self._stages:
            described, sizes = self.models.described, self.models.part_sizes[module]
            kinds = Counter(self.models.kinds[module][start:stop])
            dense, routed = [0.0] * 4, [0.0] * 4
            for number in range(start, stop):
                share = described.trained[module][number].elements / max(sum(sizes[number]), 1)
                moments = described.updates[module][number].moments
                for found, size in zip((dense, routed), sizes[number], strict=True):
                    found[0] += size
                    found[1] += size * share
                    found[2] += size * (1.0 + share * moments)
                    found[3] = max(found[3], size)
            self._stages[key] = _Stage(tuple(kinds.items()), tuple(dense), tuple(routed))
        return self._stages[key]

    def _of_parts(self, module: str, degrees: Degrees, recompute: Recompute) -> tuple[_Part, ...]:
        """What each part of a module holds on a rank."""
        # A single lane is as full as all others.
        is_even = not self._targets[module] and degrees.dp == 1
        key = (module, degrees.cp, degrees.tp, degrees.ep, degrees.etp, recompute, is_even)
        if key not in self._parts:
            lane = self.models.lane(module, degrees)
            plan = replace(self.models.on_one_rank(recompute), placement=Placement(len(lane.ranks), (lane,)))
            kinds, size = self.models.kinds[module], lane.lane_size
            known = {
                kind: _part(
                    [
                        held_part(plan, module, kind, Rows(n, n, 0, n, is_even=is_even))
                        for n in (0, size * _FEW, size * _MANY)
                    ]
                )
                for kind in dict.fromkeys(kinds)
            }
            self._parts[key] = tuple(known[kind] for kind in kinds)
        return self._parts[key]


def _count(degrees: Degrees) -> int:
    """Stages of a module."""
    return degrees.pp * degrees.chunks


def _part(looks: Sequence[Held]) -> _Part:
    """What a part holds, from what it holds without rows, with few and with many."""
    return _Part(
        _line([look.kept for look in looks]),
        _line([look.deferred for look in looks]),
        _line([look.full - look.kept + max(look.forward, look.backward) for look in looks]),
    )


def _line(looks: Sequence[int]) -> _Line:
    none, few, many = looks
    return _Line(none, (few - none) / _FEW, many)
