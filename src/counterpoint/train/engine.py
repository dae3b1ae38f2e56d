"""The engine of a rank: its stages, its optimizers, and the step action that sums, clips and updates."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, final

import torch
import torch.distributed as dist

from counterpoint.data.feed.reader import StepInputs
from counterpoint.errors import RunError
from counterpoint.execute.bridge import Bridge, MapKey
from counterpoint.execute.channel import Channel, connect, open_channel
from counterpoint.execute.groups import Groups
from counterpoint.execute.interpreter import Interpreter, Observer
from counterpoint.execute.rank_log import OWN
from counterpoint.execute.rowmap import RowMap
from counterpoint.execute.waits import WaitClock
from counterpoint.kinds.family import Model
from counterpoint.layers.attention.kernels import prefer_fast_kernels
from counterpoint.models.batch import Batch
from counterpoint.models.movable import all_to
from counterpoint.models.seams import FURTHER
from counterpoint.optimizers.groups import parameter_groups
from counterpoint.optimizers.rates import learning_rate
from counterpoint.parallelize.compile import compiled_kinds
from counterpoint.parallelize.fsdp import begin_accumulation, begin_reduction, dtype_of, release, settle_weights
from counterpoint.plan.action import Action, Compute
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.train.further import further_names, local_losses
from counterpoint.train.optimizer import Clipping, build_optimizers, by_group
from counterpoint.train.parameters import LocalBuffer, LocalParameter
from counterpoint.train.replica import Replica, build_replica, fill_replica, square_sum
from counterpoint.train.routing import RoutedStep
from counterpoint.train.settings import EngineSettings

_SCALARS = 5
"""Loss, balance loss, MTP loss, stop request and bad payloads; further losses and squared norms follow them."""

Inspector = Callable[[tuple[LocalParameter, ...]], None]
"""Called with reduced, unclipped gradients, before the update."""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The learning rate of a parameter group in a step, and its gradient norm before clipping."""

    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of a step, summed over all ranks; norms are before clipping.

    `loss` is the main loss. `balance_loss` is the sum over all MoE layers. `mtp_loss` is the mean over the depths of
    multi-token prediction, without its weight, None without any. `further` are the means of further losses, without
    weights, by `<module>.<kind>`.

    `expert_loads` are, by layer, the fewest and the most rows of an expert, divided by the layer's mean; `expert_load`
    is the maximum over all layers, None without experts. `learning_rates` are by module, for parameters outside its
    groups; `groups` are by module and name, only for modules that have some. `bad` counts payloads that were replaced.
    `ended` is the `time.perf_counter` at the end of the step. `broken` names what was not finite; if it is not empty,
    the step updated nothing.
    """

    loss: float
    balance_loss: float
    mtp_loss: float | None
    expert_load: float | None
    norm: float
    module_norms: dict[str, float]
    learning_rates: dict[str, float]
    stop: bool
    bad: int
    ended: float = field(compare=False)
    broken: tuple[str, ...] = ()
    groups: Mapping[str, Mapping[str, GroupResult]] = field(default_factory=dict)
    further: dict[str, float] = field(default_factory=dict)
    expert_loads: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Evaluated(NamedTuple):
    """The mean losses of a batch over all ranks: the main loss, and further losses by `<module>.<kind>`."""

    loss: float
    further: dict[str, float]


@final
class LaunchedStep:
    """A step whose computation, including the update, is queued on the device."""

    def __init__(self, scalars: torch.Tensor, read: Callable[[list[float], float], StepResult]) -> None:
        self._read = read
        self._scalars, self._copied = scalars, None
        # On a CPU the step has ended by now, whenever its result is read.
        self._ended = time.perf_counter()
        if scalars.is_cuda:
            self._scalars = torch.empty(scalars.shape, dtype=scalars.dtype, pin_memory=True)
            self._scalars.copy_(scalars, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def result(self) -> StepResult:
        """As `outcome`, but raise RunError if the loss or a gradient is not finite; the step then updated nothing."""
        outcome = self.outcome()
        if outcome.broken:
            raise RunError(f"{' and '.join(outcome.broken)} is not finite, nothing was updated")
        return outcome

    def outcome(self) -> StepResult:
        """Wait for this step, not for later ones, and return its results."""
        if self._copied is not None:
            self._copied.synchronize()
            self._ended = time.perf_counter()
        return self._read(self._scalars.tolist(), self._ended)


@dataclass(slots=True)
class _UnderWay:
    """A training step while its program runs: modules that its microbatches reach, payloads that were replaced on this
    rank, whether this rank wants to stop, and the launched step after the step action has been queued."""

    reached: frozenset[str] = frozenset()
    bad: int = 0
    wants_stop: bool = False
    launched: LaunchedStep | None = None


class Engine:
    """Executes batch plans of one plan on one rank. All ranks of the plan call the same methods in the same order."""

    def __init__(
        self,
        settings: EngineSettings,
        plan: Plan,
        models: Mapping[str, Model],
        groups: Groups,
        observers: tuple[Observer, ...],
    ) -> None:
        self._settings, self.plan, self._groups = settings, plan, groups
        rank, device = groups.world.rank, groups.world.device
        self._rank, self.device = rank, device
        if device.type == "cuda":
            prefer_fast_kernels()
        self._channels: dict[str, Channel] = {
            name: open_channel(name, groups.transfer(name), device) for name in plan.transfers_of(rank)
        }
        began = time.perf_counter()
        connections = connect(plan, self._channels, rank, device)
        OWN.info("%d connections to ranks of this one's links in %.1f s", connections, time.perf_counter() - began)
        self.replicas: dict[Node, Replica] = {
            node: build_replica(settings, plan, models[node.module], node, groups) for node in plan.nodes_of(rank)
        }
        for node, replica in self.replicas.items():
            fill_replica(settings, plan, models[node.module], replica)
        self._bridge = Bridge(rank, plan, self._channels, device, dtype_of(settings.training.precision.compute))
        stages = {node: replica.stage for node, replica in self.replicas.items()}
        self._interpreter = Interpreter(
            plan.stages, plan.microbatches, stages, self._bridge, self._reduce, self._begin_reduction, self._step,
            observers,
        )  # fmt: skip
        self._reducing = plan.schedule.reducing
        sections = settings.optimizers
        self._groups_of = {module: parameter_groups(sections[module]) for module in plan.graph.modules}
        self._trained = [
            (replica.stage.node.module, by_group(sections[replica.stage.node.module], replica.trained))
            for replica in self.replicas.values()
        ]
        self.optimizers = build_optimizers(settings, plan, groups, self.replicas.values())
        self._routed = RoutedStep(plan, self.replicas.values(), device)
        self._further = further_names(plan)
        self._mtp_depths = plan.facts[plan.sink].extra_depths
        self.optimizer_step, self.skipped = 0, 0
        self.inspect: Inspector | None = None
        self._under_way = _UnderWay()

    def tell_arrivals(self, arrived: Observer) -> None:
        """Call `arrived` with each compute action once the rows that it reads are there."""
        self._interpreter.arrived = arrived

    @property
    def parameters(self) -> tuple[LocalParameter, ...]:
        """This rank's shards, in the order of its nodes."""
        return tuple(parameter for replica in self.replicas.values() for parameter in replica.parameters)

    @property
    def buffers(self) -> tuple[LocalBuffer, ...]:
        """This rank's buffers."""
        return tuple(buffer for replica in self.replicas.values() for buffer in replica.buffers)

    @property
    def held(self) -> tuple[LocalParameter | LocalBuffer, ...]:
        """Parameters and buffers of this rank: its whole part of the model."""
        return (*self.parameters, *self.buffers)

    @property
    def compiled(self) -> dict[str, frozenset[str]] | None:
        """By module of this rank, the names of the classes that are compiled; None on all ranks if nothing is."""
        if not self._settings.is_compiled:
            return None
        kinds: dict[str, frozenset[str]] = {}
        for node, replica in self.replicas.items():
            kinds[node.module] = kinds.get(node.module, frozenset()) | compiled_kinds(replica.chain)
        return kinds

    @property
    def waits(self) -> WaitClock:
        """The clock of the time that this rank's host waits for other ranks in steps."""
        return self._bridge.waits

    @property
    def sent_bytes(self) -> int:
        """Bytes that this rank has sent over links so far."""
        return self._bridge.sent_bytes

    @property
    def steps_ahead(self) -> tuple[int, ...]:
        """The steps for which this rank keeps results that were computed ahead."""
        return self._interpreter.steps_ahead

    def train_step(self, inputs: StepInputs, ahead: StepInputs | None = None) -> StepResult:
        """Launch a training step as `launch_step`, and wait for its result."""
        return self.launch_step(inputs, ahead).result()

    def launch_step(
        self, inputs: StepInputs, ahead: StepInputs | None = None, *, wants_stop: bool = False
    ) -> LaunchedStep:
        """Queue one training step; a GPU still computes it on return, and the next step may be launched meanwhile.

        `ahead` are the inputs of the later step that run-ahead modules compute in this one, None after the last. If any
        rank `wants_stop`, `result.stop` is true on all ranks.
        """
        reached = frozenset(module for module, _microbatch in inputs.batches)
        self._under_way = under_way = _UnderWay(reached, len(inputs.bad), wants_stop)
        self._interpreter.run(*self._begin(inputs, ahead), inputs.batch.step)
        assert under_way.launched is not None, "every program ends with the step action"
        return under_way.launched

    def run_ahead(self, inputs: StepInputs) -> None:
        """Compute only the run-ahead modules of a step: what the first steps need before training begins."""
        program, batches = self._begin(None, inputs)
        self._interpreter.run(program[:-1], batches, inputs.batch.step - self.plan.run_ahead)
        self._bridge.finish()
        self._release()

    def evaluate_step(self, inputs: StepInputs) -> Evaluated:
        """The mean losses of a batch over all ranks, without gradients or updates."""
        schedule = self.plan.of_step(self.plan.evaluation, inputs.batch)
        self._bridge.begin(self._maps_on_device(inputs.maps))
        self._settle_weights()
        program = schedule.programs[self._rank]
        self._interpreter.run(program[:-1], self._on_device(inputs.batches))
        self._bridge.finish()
        self._release()
        total = torch.stack([self._scalar(value) for value in (self._local_loss(), *self._local_further())])
        dist.all_reduce(total, group=self._groups.collective(self.plan.placement.active))
        loss, *further = total.tolist()
        return Evaluated(loss, dict(zip(self._further, further, strict=True)))

    def _begin(
        self, inputs: StepInputs | None, ahead: StepInputs | None
    ) -> tuple[tuple[Action, ...], dict[tuple[str, int], Batch]]:
        """Set the inputs of a step, later ones for run-ahead modules; returns this rank's program and its batches."""
        template, modules = self.plan.schedule, self.plan.stages.ahead
        batch, batch_ahead = (None if one is None else one.batch for one in (inputs, ahead))
        for replica in self.replicas.values():
            begin_accumulation(replica.chain, self.plan.layouts[replica.stage.node.module].reshard)
        self._settle_weights()
        batches: dict[tuple[str, int], Batch] = {}
        maps: dict[MapKey, RowMap] = {}
        for one, is_ahead in ((inputs, False), (ahead, True)):
            if one is not None:
                batches |= self._on_device({k: b for k, b in one.batches.items() if (k[0] in modules) is is_ahead})
                maps |= self._maps_on_device(
                    {k: rows for k, rows in one.maps.items() if (k[0].target.module in modules) is is_ahead}
                )
        self._bridge.begin(maps)
        return self.plan.program(template, self._rank, batch, batch_ahead), batches

    def _settle_weights(self) -> None:
        settle_weights((replica.chain for replica in self.replicas.values()), self.device)

    def _release(self) -> None:
        for replica in self.replicas.values():
            release(replica.chain)

    def close(self) -> None:
        """Release channels; the caller owns the process groups."""
        for channel in self._channels.values():
            channel.close()

    def _on_device(self, batches: dict[tuple[str, int], Batch]) -> dict[tuple[str, int], Batch]:
        return all_to(batches, self.device)

    def _maps_on_device(self, maps: dict[MapKey, RowMap]) -> dict[MapKey, RowMap]:
        return {key: rows.to(self.device) for key, rows in maps.items()}

    def _begin_reduction(self, action: Action) -> None:
        if isinstance(action, Compute) and action in self._reducing:
            begin_reduction(self.replicas[action.node].chain)

    def _reduce(self, node: Node) -> None:
        self.replicas[node].reduce(self._has_gradients(node))

    def _has_gradients(self, node: Node) -> bool:
        return self.plan.stages.has_backward(node) and node.module in self._under_way.reached

    def _local_loss(self) -> torch.Tensor | float:
        losses = [r.stage.loss for r in self.replicas.values() if r.stage.loss is not None]
        return losses[0].double() if losses else 0.0

    def _local_further(self) -> list[torch.Tensor | float]:
        return local_losses(self.plan, self.replicas.values(), self._rank)

    def _local_mtp_loss(self) -> torch.Tensor | float:
        """This rank's contribution to the mean over depths, summed over its microbatches."""
        found = [
            losses
            for replica in self.replicas.values()
            if replica.stage.counts_loss
            for port in replica.chain.results
            if port.endswith(f".{FURTHER}")
            for losses in replica.stage.results(port)
        ]
        return torch.stack(found).double().sum() / self._mtp_depths if found else 0.0

    def _step(self) -> None:
        modules = self.plan.graph.modules
        world = self._groups.collective(self.plan.placement.active)
        squares: dict[str, list[torch.Tensor | float]] = {m: [0.0] * len(self._groups_of[m]) for m in modules}
        for node, replica in self.replicas.items():
            if self.plan.stages.trains(node):
                replica.finish_reduction(self._has_gradients(node))
        for replica, (module, groups) in zip(self.replicas.values(), self._trained, strict=True):
            replica.tie()
            squares[module] = [
                square + square_sum(group) for square, group in zip(squares[module], groups, strict=True)
            ]
        wants_stop, bad = self._under_way.wants_stop, self._under_way.bad
        own = (self._local_loss(), self._routed.balance, self._local_mtp_loss(), wants_stop, bad)
        every = (square for module in modules for square in squares[module])
        sums = torch.stack([self._scalar(value) for value in (*own, *self._local_further(), *every)])
        with self.waits:
            dist.all_reduce(sums, group=world)
        counts = self._routed.counts(world)
        if self.inspect is not None:
            self.inspect(tuple(parameter for parameter in self.parameters if parameter.is_trained))
        rates = {module: self._rates(module) for module in modules}
        clipping = self._clipping(sums)
        for module in modules:
            if module in self.optimizers:
                self.optimizers[module].step(rates[module], clipping)
        self._routed.settle(counts, clipping.is_broken)
        self._finish_frozen()
        read = partial(self._read, rates)
        self._under_way.launched = LaunchedStep(torch.cat((_loads(counts, self.device), sums)), read)
        self.optimizer_step += 1

    def _rates(self, module: str) -> list[float]:
        """The learning rates of a module's groups."""
        sections, steps = [group.section for group in self._groups_of[module]], self._settings.training.steps
        return [learning_rate(section.lr, section.schedule, self.optimizer_step, steps) for section in sections]

    def _read(self, rates: dict[str, list[float]], scalars: list[float], ended: float) -> StepResult:
        layers = self._routed.layers
        loads, (loss, balance, mtp, stop, bad, *others) = scalars[: 2 * len(layers)], scalars[2 * len(layers) :]
        load = max(loads, default=0.0)
        further, squares = others[: len(self._further)], others[len(self._further) :]
        norm, left = math.sqrt(sum(squares)), iter(squares)
        of_groups = {module: [next(left) for _group in groups] for module, groups in self._groups_of.items()}
        of_modules = {module: sum(some) for module, some in of_groups.items()}
        return StepResult(
            loss=loss,
            balance_loss=balance,
            mtp_loss=mtp if self._mtp_depths else None,
            expert_load=load if load > 0 else None,
            norm=norm,
            module_norms={module: math.sqrt(square) for module, square in of_modules.items()},
            learning_rates={module: of_groups[-1] for module, of_groups in rates.items()},
            stop=stop > 0,
            bad=int(bad),
            ended=ended,
            broken=_broken(sum((loss, balance, mtp, *further)), of_modules),
            further=dict(zip(self._further, further, strict=True)),
            expert_loads=dict(zip(layers, zip(loads[::2], loads[1::2], strict=True), strict=True)),
            groups={
                module: {
                    group.name: GroupResult(rate, math.sqrt(square))
                    for group, rate, square in zip(groups, rates[module], of_groups[module], strict=True)
                }
                for module, groups in self._groups_of.items()
                if len(groups) > 1
            },
        )

    def _scalar(self, value: torch.Tensor | float) -> torch.Tensor:
        """A float64 scalar on the device; a Python number is filled in asynchronously, without a copy from the host."""
        if isinstance(value, torch.Tensor):
            return value.double()
        return torch.full((), float(value), dtype=torch.float64, device=self.device)

    def _clipping(self, sums: torch.Tensor) -> Clipping:
        """The scale of gradients, and whether anything is not finite, as tensors that the host does not read."""
        clip = self._settings.training.clip_norm
        norms = _SCALARS + len(self._further)
        norm = sums[norms:].sum().sqrt()
        scale = None if clip is None else clip / norm.clamp(min=clip)
        return Clipping(scale, is_broken=~torch.isfinite(sums[:3].sum() + sums[_SCALARS:norms].sum() + norm))

    def _finish_frozen(self) -> None:
        """Free the gathered parameters of chains without a gradient reduction."""
        stages = self.plan.stages
        for node, replica in self.replicas.items():
            if not stages.trains(node):
                replica.reduce(self._has_gradients(node))
                replica.finish_reduction(self._has_gradients(node))
                release(replica.chain)


def _broken(loss: float, squares: dict[str, float]) -> tuple[str, ...]:
    """The names of what is not finite."""
    gradients = [f"the gradient of {module}" for module, square in squares.items() if not math.isfinite(square)]
    return (*(() if math.isfinite(loss) else ("the loss",)), *gradients)


def _loads(counts: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:
    """For each layer, the fewest and the most rows of an expert over the layer's mean: float64 (2 * layers,)."""
    if not counts:
        return torch.zeros(0, dtype=torch.float64, device=device)
    shares = (layer / layer.double().mean().clamp(min=1.0) for layer in counts.values())
    return torch.cat([torch.stack((share.min(), share.max())) for share in shares])
