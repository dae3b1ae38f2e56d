"""What a rank's host takes for layers, measured on small ones that run as in a training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from counterpoint.calibrate.exchanges import ONE_RANK
from counterpoint.calibrate.stopwatch import NotMeasuredError, Passes, Stopwatch, random
from counterpoint.config.training import PrecisionConfig
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import InputError
from counterpoint.families import facts_of, rules_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.batch import TextBatch
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.models.seams import Wide
from counterpoint.models.segments import Segments
from counterpoint.parallelize.compile import apply_compile
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.fsdp import (
    begin_accumulation,
    begin_reduction,
    dtype_of,
    finish_reduction,
    local,
    reduce_gradients,
    shard_data_parallel,
)
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.plan.layout import Layout
from counterpoint.plan.samples import NO_LABEL
from counterpoint.plan.work import PartWork
from counterpoint.simulate.operations import Operation, PartOperations, Setting, part_operations
from counterpoint.simulate.seconds import calls_of, kernels_of, seconds_of
from counterpoint.simulate.sizes import BYTES

_LAYERS, _LAYERS_ON_CPU = 24, 8
"""Layers of attention and MLPs in turn. A training has more than fit into the caches of a GPU's host; on a CPU, where
figures are differences of long times, noise would grow with more."""

_SPECIAL = 4
_SPECIAL_PATTERNS = {"mixed": "E" * _SPECIAL, "scanned": "M" * _SPECIAL}
"""Layers of a mixture of experts, or with a scan, by how they run."""

_PASSES = 2
"""Forward and backward."""

_LEAST_SECONDS = 1e-9
"""A file has no figure of 0."""

How = Literal["plain", "compiled", "recomputed", "cut", "mixed", "scanned"]
"""How layers run that are not sharded. Those that are `cut` share weights and rows by tensor parallelism; `mixed` ones
are mixtures of experts, `scanned` ones Mamba-2's."""

Sharded = Literal["kept", "gathered", "summed"]
"""What becomes of sharded layers: they are kept whole, or gathered before forward and before backward, or gathered
before forward and their gradients summed after backward."""


@final
@dataclass(frozen=True, slots=True)
class Ways:
    """Sharded layers, each in a group of its own or all `together` in one."""

    how: Sharded
    together: bool = False


@final
class HostLayers:
    """Seconds of a host for layers whose kernels are short. `known` is the hardware as far as it was measured.

    Gradients accumulate over `mesh`. On a CPU that is of this rank alone, since what ranks exchange has figures of its
    own; a GPU exchanges behind its host. Two ranks of `pair` share layers that are cut. `compiles`: trainings do.
    """

    def __init__(
        self,
        watch: Stopwatch,
        known: Callable[[], Hardware],
        mesh: Callable[[], DeviceMesh],
        pair: Callable[[], TensorGroup | None],
        *,
        compiles: bool,
    ) -> None:
        self._watch, self._known, self._mesh, self._pair = watch, known, mesh, pair
        self._compiles = compiles
        on_gpu = watch.device.type == "cuda"
        self._on_gpu, self._rows, width = on_gpu, 128 if on_gpu else 32, 256 if on_gpu else 64
        self._precision = PrecisionConfig(compute="bfloat16" if on_gpu else "float32")
        self._width = width
        self._layers = _LAYERS if on_gpu else _LAYERS_ON_CPU
        self._pattern = "*-" * (self._layers // 2)
        self._models = {one: _model(one, width) for one in (self._pattern, *_SPECIAL_PATTERNS.values())}
        self._found: dict[How | Ways, tuple[float, ...]] = {}

    def kernel(self, *, is_compiled: bool) -> float:
        """One kernel of a layer, on a GPU of its forward."""
        how: How = "compiled" if is_compiled else "plain"
        if self._on_gpu:
            return self._passes(how)[0] / self._kernels(how)[0]
        return _more_than_nothing(self._beside_tables(how) / sum(self._kernels(how)))

    def backward(self, *, is_compiled: bool) -> float:
        """One kernel of a layer's backward, on a GPU."""
        how: How = "compiled" if is_compiled else "plain"
        return self._passes(how)[1] / self._kernels(how)[1]

    def group(self) -> float:
        """A group of sharded parameters in a pass that neither gathers it nor sums its gradients."""
        return self._split(self._kept)[0] / _PASSES

    def group_tensor(self) -> float:
        """Each of its parameters."""
        return self._split(self._kept)[1] / _PASSES

    def gather(self) -> float:
        """What a gather adds."""
        return self._split(self._gathered)[0]

    def gather_tensor(self) -> float:
        """What each of a group's parameters adds to its gather."""
        return self._split(self._gathered)[1]

    def sum(self) -> float:
        """What a sum of gradients adds."""
        return self._split(self._summed)[0]

    def sum_tensor(self) -> float:
        """What each of a group's parameters adds to the sum of its gradients."""
        return self._split(self._summed)[1]

    def _kept(self, together: bool) -> float:
        """What it takes that all layers are sharded, in forward and backward."""
        return self._seconds(Ways("kept", together)) - self._seconds("plain")

    def _gathered(self, together: bool) -> float:
        """What it adds that they are gathered once. A GPU's mesh of one rank starts nothing but copies them one by one,
        which is no figure of a gather."""
        if self._on_gpu and self._mesh().size() == 1:
            raise NotMeasuredError(ONE_RANK)
        return (self._seconds(Ways("gathered", together)) - self._seconds(Ways("kept", together))) / _PASSES

    def _summed(self, together: bool) -> float:
        """What it adds that their gradients are summed."""
        both = self._seconds(Ways("summed", together)) - self._seconds(Ways("kept", together))
        return both - self._gathered(together)

    def _split(self, seconds: Callable[[bool], float]) -> tuple[float, float]:
        """What a group and what a parameter has of the seconds that all layers take apart, neither less than nothing:
        together they have one group, and as many parameters."""
        apart = _more_than_nothing(seconds(False))
        tensors = sum(len(part.tensors) for part in facts_of(self._models[self._pattern]).parts if _is_layer(part.name))
        group = min(max((apart - seconds(True)) / (self._layers - 1), 0.0), apart / self._layers)
        tensor = (apart - group * self._layers) / tensors
        return max(group, _LEAST_SECONDS), max(tensor, _LEAST_SECONDS)

    def recomputed(self) -> float:
        """A layer that is recomputed, in a pass, beside its kernels."""
        kernels = self._of_kernels("recomputed", is_compiled=False)
        return _more_than_nothing((self._beside_tables("recomputed") - kernels) / _PASSES / self._layers)

    def exchange(self) -> float:
        """An exchange of rows between the ranks of a layer, in forward and backward."""
        return self._beyond_kernels("cut") / calls_of(self._forward("cut")).exchanges

    def mixture(self) -> float:
        """A mixture of experts, in forward and backward."""
        return self._beyond_kernels("mixed") / _SPECIAL

    def scan(self) -> float:
        """A layer with a scan, in forward and backward."""
        return self._beyond_kernels("scanned") / _SPECIAL

    def _beyond_kernels(self, how: How) -> float:
        """What layers take beyond the kernels that the clock counts for them: nothing, where theirs are the quicker."""
        kernels = self._of_kernels(how, is_compiled=self._compiles)
        return max(self._beside_tables(how) - kernels, _LEAST_SECONDS)

    def _of_kernels(self, how: How, *, is_compiled: bool) -> float:
        """What the kernels of layers take."""
        forward, backward = self._kernels(how)
        kernel = self.kernel(is_compiled=is_compiled)
        return kernel * forward + (self.backward(is_compiled=is_compiled) if self._on_gpu else kernel) * backward

    def _seconds(self, how: How | Ways) -> float:
        """The host's seconds for forward and backward of all layers."""
        return sum(self._passes(how))

    def _passes(self, how: How | Ways) -> tuple[float, ...]:
        """On a GPU those of each."""
        if how not in self._found:
            self._found[how] = self._watch.host_of_passes(partial(self._calls, how))
        return self._found[how]

    def _beside_tables(self, how: How) -> float:
        """Those that the tables do not have: on a GPU all of them, since its tables have the device's."""
        seconds = self._seconds(how)
        if self._on_gpu:
            return seconds
        try:
            found = seconds_of(self._operations(how), self._known(), self._precision.compute, lambda _axis: (1, 1))
        except InputError as error:
            raise NotMeasuredError(str(error)) from None
        return seconds - found.compute

    def _kernels(self, how: How) -> tuple[int, int]:
        """Those of forward, wherever it runs, and of backward."""
        parts = self._parts(how)
        forward = sum(kernels_of(part.forward) + kernels_of(part.again) for part in parts)
        return forward, kernels_of(self._operations(how)) - forward

    def _operations(self, how: How) -> list[Operation]:
        """What the clock counts for these layers."""
        return [one for part in self._parts(how) for one in (*part.forward, *part.inputs, *part.weights)]

    def _forward(self, how: How) -> list[Operation]:
        return [one for part in self._parts(how) for one in part.forward]

    def _parts(self, how: How) -> list[PartOperations]:
        facts = facts_of(self._models[self._pattern_of(how)])
        layout = Layout(module="layers", ranks=(0, 1), tp=2) if how == "cut" else Layout(module="layers", ranks=(0,))
        setting = Setting(
            layout=layout, value_bytes=BYTES[self._precision.compute], is_compiled=self._is_compiled(how),
            is_recomputed=how == "recomputed",
        )  # fmt: skip
        load = facts.load(_documents(self._rows))
        works = [PartWork(part, 1.0, 1.0, has_pairs_back=True) for part in facts.parts if _is_layer(part.name)]
        return [part_operations(work, load, self._rows, setting) for work in works]

    def _is_compiled(self, how: How) -> bool:
        return how == "compiled" or (self._compiles and how in ("cut", "mixed", "scanned"))

    def _calls(self, how: How | Ways) -> Passes:
        chain = self._chain(how)
        dtype = dtype_of(self._precision.compute)
        # Functions that are compiled for rows of any number take a host longer than those for one, and trainings, whose
        # steps differ, have these.
        is_compiled = not isinstance(how, Ways) and self._is_compiled(how)
        numbers = (self._rows, self._rows * 3 // 2) if is_compiled else (self._rows,)
        readings = cycle([self._reading(number, dtype, is_cut=how == "cut") for number in numbers])
        sums = isinstance(how, Ways) and how.how == "summed"

        made: list[tuple[Tensor, Tensor]] = []

        def forward() -> None:
            inputs, gradient, batch = next(readings)
            made.append((chain(inputs, batch)[MAIN], gradient))

        def backward() -> None:
            out, gradient = made.pop()
            if sums:
                begin_reduction(chain)
            out.backward(gradient)  # type: ignore[no-untyped-call]
            if sums:
                reduce_gradients(chain, reached=True)
                finish_reduction(chain, reached=True)
                begin_accumulation(chain, reshard=False)

        return forward, backward

    def _reading(self, rows: int, dtype: torch.dtype, *, is_cut: bool) -> tuple[Tensor, Tensor, TextBatch]:
        """What layers read in forward and in backward; those that are cut have half of the rows."""
        device, own = self._watch.device, rows // 2 if is_cut else rows
        inputs, gradient = (random((own, self._width), dtype, device) for _end in range(2))
        return inputs.requires_grad_(), gradient, _batch(rows, device)

    def _chain(self, how: How | Ways) -> Chain:
        chain = self._sharded(how) if isinstance(how, Ways) else self._whole(how)
        with torch.no_grad():
            for parameter in chain.parameters():
                local(parameter).normal_(std=self._width**-0.5)
        return chain

    def _whole(self, how: How) -> Chain:
        chain, model = self._built(self._pattern_of(how)), self._models[self._pattern_of(how)]
        if how == "cut":
            pair = self._pair()
            if pair is None:
                raise NotMeasuredError(ONE_RANK)
            apply_tensor_parallel(chain, pair, True, rules_of(model.section))
        if self._is_compiled(how):
            apply_compile(chain)
        if how == "recomputed":
            apply_recompute(chain, frozenset(self._pattern))
        chain.to(dtype_of(self._precision.compute))
        for module in chain.modules():
            if isinstance(module, Wide):
                module.to(dtype_of(self._precision.parameters))
        chain.to_empty(device=self._watch.device)
        return chain

    def _sharded(self, ways: Ways) -> Chain:
        chain, gathers = self._built(self._pattern), ways.how == "gathered"
        # Resharded, each layer has a group of its own; without, small ones share one.
        shard_data_parallel(chain, self._mesh(), None, self._precision, reshard=not ways.together, recomputes=False)
        chain.to_empty(device=self._watch.device)
        sharded: nn.Module = chain
        assert isinstance(sharded, FSDPModule), "sharded"
        sharded.set_reshard_after_forward(gathers)
        begin_accumulation(chain, reshard=gathers)
        return chain

    def _pattern_of(self, how: How) -> str:
        return _SPECIAL_PATTERNS.get(how, self._pattern)

    def _built(self, pattern: str) -> Chain:
        with torch.device("meta"):
            return build_chain(part for part in parts_of(self._models[pattern]) if _is_layer(part.name))


def _model(pattern: str, width: int) -> Model:
    section = DecoderConfig(
        kind="decoder", pattern=pattern, hidden=width, heads=4, kv_heads=2, head_dim=width // 4, ffn=2 * width, vocab=8,
        moe=MoeConfig(experts=8, top_k=2, ffn=width, shared_ffn=width, router="sigmoid"),
        mamba=MambaConfig(heads=2 * width // 64, head_dim=64, groups=2, state=128),
    )  # fmt: skip
    return Model(section, Ends(vocab=8))


def _is_layer(part: str) -> bool:
    return part.startswith("layers.")


def _more_than_nothing(seconds: float) -> float:
    """A difference of two figures; what noise hides is not measured, so that what stands in for it counts."""
    if seconds < 0.0:
        raise NotMeasuredError("less than the figures vary by that it is the difference of")
    return max(seconds, _LEAST_SECONDS)


def _documents(rows: int) -> tuple[int, ...]:
    """Their lengths, which differ as those of trainings do: equal ones may have kernels that take the host less."""
    first = rows * 5 // 8
    return first, rows - first


def _batch(rows: int, device: torch.device) -> TextBatch:
    places = torch.arange(rows, device=device)
    segments = Segments.build(_documents(rows), rows, device, differ=True)
    return TextBatch(torch.zeros_like(places), places, torch.full_like(places, NO_LABEL), segments, 1.0)
