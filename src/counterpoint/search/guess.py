"""A rough time and memory of a candidate, in closed form: the order in which candidates are looked at, nothing more.

The parts' seconds are those of the clock for the fullest lane; that a pipeline fills and empties once, and what of
FSDP's communication the computation beside it hides, are estimates here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, final

from counterpoint.costs.hardware import Hardware
from counterpoint.plan.cost import Load
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute
from counterpoint.search.footprint import Footprints
from counterpoint.search.models import Models
from counterpoint.search.workload import Workload
from counterpoint.simulate.operations import Core, Operation
from counterpoint.simulate.seconds import Seconds, seconds_of


class ModuleGuess(NamedTuple):
    """Of a rank at the slowest place of a module's pipeline: seconds of one microbatch (forward, gradients), seconds
    once a step, and kernels of a microbatch."""

    forward: float
    backward: float
    once: float
    kernels: float

    @property
    def both(self) -> float:
        """Seconds of a microbatch."""
        return self.forward + self.backward


class _Sharding(NamedTuple):
    """Seconds of gathering all parameters of a rank, of summing their gradients, of copying what is gathered, of adding
    a microbatch's gradients to those before, and of the update."""

    gathers: float
    sums: float
    copies: float
    adds: float
    update: float


class _Passes(NamedTuple):
    """Seconds of a part, `attention` of its forward being that kernel's, and its kernels, of which `of_forward` are
    forward's."""

    forward: float
    backward: float
    kernels: int
    attention: float
    of_forward: int

    def scaled(self, factor: float) -> "_Passes":
        """The same with as many kernels that take `factor` times as long."""
        times = (factor * self.forward, factor * self.backward, self.kernels, factor * self.attention)
        return _Passes(*times, self.of_forward)

    def again(self, *, keeps_attention: bool) -> "_Passes":
        """The same if forward runs again before backward."""
        more = self.forward - (self.attention if keeps_attention else 0.0)
        return self._replace(backward=self.backward + more, kernels=self.kernels + self.of_forward)


_Sums = tuple[list[float], list[float], list[float]]
"""Running sums over parts: of forward, backward and kernels."""


def _added(sums: _Sums, stages: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
    """Forward, backward and kernels of some stages, each a run of parts."""
    forward, backward, kernels = (sum(each[stop] - each[start] for start, stop in stages) for each in sums)
    return forward, backward, kernels


@final
@dataclass(frozen=True)
class Guess:
    """Guesses for some models, workload and machine."""

    models: Models
    work: Workload
    hardware: Hardware
    footprints: Footprints
    _modules: dict[tuple[str, Degrees, Recompute, int], ModuleGuess] = field(default_factory=dict, repr=False)
    _parts: dict[object, tuple[_Passes, ...]] = field(default_factory=dict, repr=False)
    _kinds: dict[object, _Passes] = field(default_factory=dict, repr=False)
    _summed: dict[object, _Sums] = field(default_factory=dict, repr=False)
    _shards: dict[tuple[str, Degrees], _Sharding] = field(default_factory=dict, repr=False)

    def seconds(self, candidate: Candidate) -> float:
        """About the seconds of a step."""
        microbatches = candidate.schedule.microbatches
        shared: dict[Sequence[int], float] = {}
        kernels: dict[Sequence[int], float] = {}
        fill = 0.0
        for number, (name, choice) in enumerate(candidate.choices):
            guess = self.module(name, choice, microbatches)
            shared[choice.ranks] = shared.get(choice.ranks, 0.0) + microbatches * guess.both + guess.once
            kernels[choice.ranks] = kernels.get(choice.ranks, 0.0) + microbatches * guess.kernels
            # The first microbatch passes every pipeline before all ranks work, and the last one on its way back.
            fill += (choice.degrees.pp - 1) * guess.both / choice.degrees.chunks
            is_last = number == len(candidate.choices) - 1
            fill += 0.0 if is_last or choice.ranks == candidate.choices[-1][1].ranks else guess.both
        return max(max(shared.values()) + fill, self.hardware.launch_seconds * max(kernels.values()))

    def memory_bytes(self, candidate: Candidate) -> float:
        """About the bytes of the fullest rank."""
        return self.footprints.memory_bytes(candidate)

    def module(self, module: str, choice: Choice, microbatches: int) -> ModuleGuess:
        """The guess for one module."""
        key = (module, choice.degrees, choice.recompute, microbatches)
        if key not in self._modules:
            self._modules[key] = self._of(module, choice.degrees, choice.recompute, microbatches)
        return self._modules[key]

    def _of(self, module: str, degrees: Degrees, recompute: Recompute, microbatches: int) -> ModuleGuess:
        facts, size = self.models.described.facts[module], self.models.value_bytes
        sums = self._sums(module, degrees, recompute, microbatches * degrees.dp)
        stages = self.models.splits(module, degrees.pp * degrees.chunks)
        places = [_added(sums, stages[place :: degrees.pp]) for place in range(degrees.pp)]
        forward, backward, _kernels = max(places, key=lambda place: place[0] + place[1])
        fullest = self.work.modules[module].unevenness(degrees.dp)
        forward, backward = fullest * forward, fullest * backward
        kernels = max(place[2] for place in places)
        rows = self.work.modules[module].cell(microbatches * degrees.dp)[0].rows / degrees.lane_size
        if degrees.pp > 1:
            sent = self.hardware.transfer(int(rows * facts.hidden * size), self._nodes(2, degrees.stage_size))
            forward, backward = forward + sent, backward + sent
        repeated, once = self._sharding(module, degrees, forward, backward, microbatches)
        return ModuleGuess(forward + repeated[0], backward + repeated[1], once, kernels)

    def _sums(self, module: str, degrees: Degrees, recompute: Recompute, cells: int) -> _Sums:
        """Running sums over the parts of a module, for the load of one cell, with what they compute again."""
        key = (module, degrees.cp, degrees.tp, degrees.ep, degrees.etp, cells, recompute)
        if key not in self._summed:
            keeps, flags = "attention" in recompute.keeps, self.models.computed_again(module, recompute)
            passes = [
                each.again(keeps_attention=keeps) if again else each
                for each, again in zip(self._plain(module, degrees, cells), flags, strict=True)
            ]
            self._summed[key] = (
                [0.0, *accumulate(each.forward for each in passes)],
                [0.0, *accumulate(each.backward for each in passes)],
                [0.0, *accumulate(float(each.kernels) for each in passes)],
            )
        return self._summed[key]

    def _plain(self, module: str, degrees: Degrees, cells: int) -> tuple[_Passes, ...]:
        """Seconds of each part on a rank for the load of one cell, without recomputation."""
        key = (module, degrees.cp, degrees.tp, degrees.ep, degrees.etp, cells)
        if key not in self._parts:
            load, scale = self.work.modules[module].cell(cells)
            rows = -(-max(load.rows, 1) // degrees.lane_size) * degrees.lane_size
            scored = max(1, int(rows * (self.work.modules[module].scored if degrees.tp == 1 else 1.0)))
            kinds, facts = self.models.kinds[module], self.models.described.facts[module].parts
            known: dict[int, _Passes] = {}
            for kind in dict.fromkeys(kinds):
                own = scored if kind > self.models.last_mixing[module] else rows
                # Only routed experts see how they are dealt to ranks.
                cut = degrees if facts[kind].expert_parameters else degrees._replace(ep=1, etp=1)
                known[kind] = self._of_kind(module, kind, cut, load, own).scaled(scale)
            self._parts[key] = tuple(known[kind] for kind in kinds)
        return self._parts[key]

    def _of_kind(self, module: str, number: int, degrees: Degrees, load: Load, rows: int) -> _Passes:
        key = (module, number, degrees.cp, degrees.tp, degrees.ep, degrees.etp, load)
        if key not in self._kinds:
            self._kinds[key] = self._of_part(module, number, degrees, load, rows)
        return self._kinds[key]

    def _of_part(self, module: str, number: int, degrees: Degrees, load: Load, rows: int) -> _Passes:
        made = self.models.operations(module, number, degrees, Recompute(), load, rows)
        cores = tuple(one for one in made.forward if isinstance(one, Core) and not one.state)
        forward, inputs, weights, attention = (
            self._seconds(each, degrees) for each in (made.forward, made.inputs, made.weights, cores)
        )
        is_compiled = self.models.is_compiled
        passes = (forward, inputs, weights, attention)
        times = [each.on(self.hardware, is_compiled=is_compiled) for each in passes]
        kernels = forward.kernels + inputs.kernels + weights.kernels
        return _Passes(times[0], times[1] + times[2], kernels, times[3], forward.kernels)

    def _seconds(self, operations: Sequence[Operation], degrees: Degrees) -> Seconds:
        dtype = self.models.precision.compute
        return seconds_of(operations, self.hardware, dtype, lambda axis: self._span(degrees, axis))

    def _sharding(
        self, module: str, degrees: Degrees, forward: float, backward: float, microbatches: int
    ) -> tuple[tuple[float, float], float]:
        """Seconds that FSDP adds to each forward and backward, and once a step with the optimizer's update."""
        kept = self._kept(module, degrees)
        gathers, sums, copies, adds = kept.gathers, kept.sums, kept.copies, kept.adds
        # A gather runs beside the work before it, all but the first; sums beside the rest of the last backward.
        first = gathers / max(len(self.models.described.facts[module].parts) / degrees.pp, 1.0)
        early, late = (max(gathers - beside, first) + copies for beside in (forward, backward))
        accumulated = adds if microbatches > 1 else 0.0
        repeated = (early, late + accumulated) if degrees.reshard else (0.0, accumulated)
        once = max(sums - backward, 0.0) + kept.update + (0.0 if degrees.reshard else early)
        return repeated, once

    def _kept(self, module: str, degrees: Degrees) -> _Sharding:
        """Seconds of a rank's shards, whatever the microbatches are."""
        if (module, degrees) not in self._shards:
            models, hardware = self.models, self.hardware
            gathers = sums = copies = adds = updated = 0.0
            for axis, held in zip(("dp_shard", "edp"), models.sizes(module), strict=True):
                local = held.all / degrees.pp / (degrees.tp if axis == "dp_shard" else degrees.ep * degrees.etp)
                trained = local * held.trained / max(held.all, 1.0)
                shards, nodes = self._span(degrees, axis)
                updated += trained / shards
                if not local or (axis == "edp" and shards == 1 and not degrees.reshard):
                    continue
                gathers += hardware.collective("all_gather", int(local * models.value_bytes), shards, nodes)
                sums += hardware.collective("reduce_scatter", int(trained * models.stored_bytes), shards, nodes)
                if axis == "dp_shard":
                    size = int(trained * models.stored_bytes / shards)
                    sums += hardware.collective("all_reduce", size, *self._span(degrees, "dp_replicate"))
                copies += hardware.elementwise(int(2 * local * models.value_bytes))
                adds += hardware.elementwise(int(trained * (models.value_bytes + 2 * models.stored_bytes)))
            self._shards[module, degrees] = _Sharding(gathers, sums, copies, adds, hardware.update(int(updated)))
        return self._shards[module, degrees]

    def _span(self, degrees: Degrees, axis: str) -> tuple[int, int]:
        """The ranks of a group along an axis, and the nodes over which they lie."""
        lane = degrees.lane_size
        experts = degrees.ep * degrees.etp
        ranks, stride = {
            "tp": (degrees.tp, 1),
            "cp": (degrees.cp, degrees.tp),
            "ep": (experts, 1),
            "edp": (degrees.edp, experts),
            "dp_shard": (degrees.dp_shard * degrees.cp, degrees.tp),
            "dp_replicate": (degrees.dp_replicate, degrees.dp_shard * lane),
        }[axis]
        return ranks, self._nodes(ranks, stride)

    def _nodes(self, ranks: int, stride: int) -> int:
        """The nodes over which a group lies whose ranks are `stride` apart."""
        return max(1, min(ranks, -(-ranks * stride // self.hardware.ranks_per_node)))
