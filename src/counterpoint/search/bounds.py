"""Bounds that no plan of a candidate can be under, from the step's work and the machine's best rates alone.

Rows are dealt perfectly, nothing is padded, no communication takes time, and every operation runs at the best rate that
any size of it reaches; so what the clock says is never less. A pipeline waits for the forwards before it and the
gradients after it of one microbatch, which is no smaller than the smallest pack. The host launches the kernels of every
microbatch that has a document. What no own parameter needs of a backward is left out, since it runs only for some
documents: those with items whose encoder is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import final

from counterpoint.costs.hardware import Hardware
from counterpoint.search.candidate import Candidate, Choice, Degrees, Recompute
from counterpoint.search.models import Models
from counterpoint.search.rates import Rates
from counterpoint.search.workload import Workload
from counterpoint.simulate.operations import Operation
from counterpoint.simulate.seconds import kernels_of

_ROUNDED = 0.995
"""Of the seconds: sizes of operations are whole numbers, which may be rounded down."""


@final
@dataclass(frozen=True, slots=True)
class StageWork:
    """Seconds at the best rates of one stage's step on one rank: forward, gradients of inputs with what is computed
    again for them, and gradients of weights; and the kernels of one microbatch."""

    forward: float
    inputs: float
    weights: float
    kernels: int

    @property
    def all(self) -> float:
        """Everything."""
        return self.forward + self.inputs + self.weights


@final
@dataclass(frozen=True)
class Bounds:
    """The bounds of candidates for some models, workload and machine."""

    models: Models
    work: Workload
    hardware: Hardware
    _parts: dict[tuple[str, Recompute], tuple[StageWork, ...]] = field(default_factory=dict, repr=False)
    _stages: dict[tuple[str, int, Recompute], tuple[StageWork, ...]] = field(default_factory=dict, repr=False)
    _bytes: dict[tuple[str, Degrees, bool], float] = field(default_factory=dict, repr=False)

    def seconds(self, candidate: Candidate) -> float:
        """Seconds that a step takes at least."""
        shared: dict[Sequence[int], float] = {}
        longest = 0.0
        for name, choice in candidate.choices:
            stages = self.stages(name, choice.degrees.pp * choice.degrees.chunks, choice.recompute)
            mean = sum(stage.all for stage in stages) / len(choice.ranks)
            shared[choice.ranks] = shared.get(choice.ranks, 0.0) + mean
            longest = max(longest, self._pipeline(name, choice, stages))
        return max(longest, *shared.values(), self._launches(candidate))

    def _launches(self, candidate: Candidate) -> float:
        """Seconds in which the host of a rank of the sink launches the kernels of all microbatches."""
        sink = self.models.described.graph.sinks[0]
        choice = candidate.by_module[sink]
        count, places = choice.degrees.pp * choice.degrees.chunks, choice.degrees.pp
        stages = [stage.kernels for stage in self.stages(sink, count, choice.recompute)]
        kernels = max(sum(stages[place::places]) for place in range(places))
        filled = self.work.filled(choice.degrees.dp, candidate.schedule.microbatches)
        return filled * kernels * self._kernel_seconds * self.hardware.alone

    @cached_property
    def _kernel_seconds(self) -> float:
        """What the host takes for a kernel at least."""
        of_layer = self.hardware.host.kernels(is_compiled=self.models.is_compiled)
        return self.hardware.launch_seconds if of_layer is None else min(of_layer)

    def _pipeline(self, module: str, choice: Choice, stages: tuple[StageWork, ...]) -> float:
        """The busiest place of a module's pipeline, with what it waits for before and after."""
        degrees = choice.degrees
        # One microbatch of one lane waits for all stages before; on its way back for those again.
        of_lane = self.work.modules[module].least / degrees.lane_size
        before = [0.0, *accumulate(stage.forward * of_lane for stage in stages)]
        after = [0.0, *accumulate(stage.inputs * of_lane for stage in stages)]
        longest = 0.0
        for place in range(degrees.pp):
            own = stages[place :: degrees.pp]
            until_inputs = sum(stage.forward + stage.inputs for stage in own) / degrees.stage_size
            in_all = sum(stage.all for stage in own) / degrees.stage_size
            # Weight gradients may come after the last gradient of inputs has left.
            longest = max(longest, before[place] + in_all, before[place] + until_inputs + after[place])
        return longest

    def stages(self, module: str, count: int, recompute: Recompute) -> tuple[StageWork, ...]:
        """The work of a module's stages if it is cut into `count`, on a single rank."""
        key = (module, count, recompute)
        if key not in self._stages:
            parts = self._of_parts(module, recompute)
            self._stages[key] = tuple(
                StageWork(
                    sum(part.forward for part in parts[start:stop]),
                    sum(part.inputs for part in parts[start:stop]),
                    sum(part.weights for part in parts[start:stop]),
                    sum(part.kernels for part in parts[start:stop]),
                )
                for start, stop in self.models.splits(module, count)
            )
        return self._stages[key]

    def _of_parts(self, module: str, recompute: Recompute) -> tuple[StageWork, ...]:
        if (module, recompute) not in self._parts:
            load = self.work.modules[module]
            whole, found = load.whole, []
            trained = [part.is_trained for part in self.models.described.trained[module]]
            for number in range(len(load.facts.parts)):
                # Where nothing but scores follows, rows without a label are left out.
                share = load.scored if number > self.models.last_mixing[module] else 1.0
                rows = max(1, int(whole.rows * share))
                made = self.models.operations(module, number, Degrees(), recompute, whole, rows)
                passes = (made.forward, made.inputs if any(trained[: number + 1]) else (), made.weights)
                kernels = sum(map(kernels_of, passes))
                forward, inputs, weights = map(self._least, passes)
                found.append(StageWork(forward, inputs, weights, kernels))
            self._parts[module, recompute] = tuple(found)
        return self._parts[module, recompute]

    def _least(self, operations: Sequence[Operation]) -> float:
        """Seconds at the best rates in an average step."""
        # Where ranks share a processor, one of them is faster while the others wait.
        return _ROUNDED * self.hardware.alone * self._rates.seconds(operations) / len(self.work.steps)

    @cached_property
    def _rates(self) -> Rates:
        return Rates(self.hardware, self.models.precision.compute)

    def memory_bytes(self, candidate: Candidate) -> float:
        """Bytes that the fullest rank takes at least: parameters, gradients and optimizer state, without any
        activation or gathered parameter."""
        shared: dict[Sequence[int], float] = {}
        accumulates = candidate.schedule.microbatches > 1
        for name, choice in candidate.choices:
            # The mean over the places of a pipeline: the fullest ones of several modules need not be the same.
            used = self.module_bytes(name, choice.degrees, accumulates=accumulates) / choice.degrees.pp
            shared[choice.ranks] = shared.get(choice.ranks, 0.0) + used
        return max(shared.values())

    def module_bytes(self, module: str, degrees: Degrees, *, accumulates: bool) -> float:
        """Bytes of parameters, gradients and optimizer state of one rank at every place of a module's pipeline; who
        `accumulates` gradients over microbatches has them whole."""
        key = (module, degrees, accumulates)
        if key not in self._bytes:
            dense, routed = self.models.sizes(module)
            tp, shards = degrees.tp, degrees.dp_shard * degrees.cp
            size, edp = degrees.ep * degrees.etp, degrees.edp
            sharded = dense.kept / (tp * shards) + routed.kept / (size * edp)
            whole = dense.trained / tp + routed.trained / size
            summed = whole if accumulates else dense.trained / (tp * shards) + routed.trained / (size * edp)
            self._bytes[key] = sharded * self.models.stored_bytes + summed * self.models.summed_bytes
        return self._bytes[key]
