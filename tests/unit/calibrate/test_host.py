"""What layers take of a host, from the seconds of their passes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh

from counterpoint import costs
from counterpoint.calibrate import host
from counterpoint.calibrate.host import HostLayers, How, Sharded, Ways
from counterpoint.calibrate.stopwatch import NotMeasuredError, Passes, Stopwatch
from counterpoint.config.training import PrecisionConfig
from counterpoint.costs.hardware import Hardware
from counterpoint.models.chain import Chain

H200 = costs.load("H200")
LAYERS, ON_CPU = 24, 8
PLAIN, COMPILED, AGAIN = 2124, 540, 3000
"""Kernels that the clock counts for forward and backward of these layers: as they are, compiled, and recomputed."""

OF_FORWARD: dict[How, int] = {
    "plain": 876,
    "compiled": 204,
    "recomputed": 2 * 876,
    "cut": 348,
    "mixed": 120,
    "scanned": 52,
}
"""Those of forward, which runs twice where it is recomputed."""

CUT, EXCHANGES = COMPILED + 2 * 3 * 48, 48
"""The same compiled and cut: a gather and a sum in each, with a collective and two kernels in each pass."""

MIXED, SCANNED, SPECIAL = 320, 136, 4

COUNTS: dict[How, int] = {
    "plain": PLAIN, "compiled": COMPILED, "recomputed": AGAIN, "cut": CUT, "mixed": MIXED, "scanned": SCANNED,
}  # fmt: skip

TENSORS = 108
"""Parameters of all layers: four and a norm of attention, three and a norm of an MLP."""


class Times:
    """A stopwatch that knows what forward and backward take together; a kernel takes as long in both."""

    def __init__(self, device: str, seconds: dict[How | Ways, float]) -> None:
        self.device, self._seconds = torch.device(device), seconds

    def host_of_passes(self, make: Callable[[], Passes]) -> tuple[float, ...]:
        (how,) = cast("partial[Passes]", make).args
        if self.device.type == "cpu":
            return (self._seconds[how],)
        forward = 0.5 * self._seconds[how]
        if not isinstance(how, Ways):
            forward = self._seconds[how] * OF_FORWARD[how] / COUNTS[how]
        return forward, self._seconds[how] - forward


def _layers(seconds: dict[How | Ways, float], hardware: Hardware = H200, ranks: int = 2) -> HostLayers:
    watch = cast(Stopwatch, Times(hardware.device, seconds))
    mesh = cast(DeviceMesh, SimpleNamespace(size=lambda: ranks))
    return HostLayers(watch, lambda: hardware, lambda: mesh, lambda: None, compiles=True)


def test_a_figure_is_that_of_one_kernel_one_group_one_parameter_and_one_layer() -> None:
    plain = PLAIN * 1e-5
    seconds: dict[How | Ways, float] = {
        "plain": plain,
        "compiled": COMPILED * 7e-5,
        "recomputed": AGAIN * 1e-5 + 2 * LAYERS * 5e-4,
        "cut": CUT * 7e-5 + EXCHANGES * 6e-4,
        "mixed": MIXED * 7e-5 + SPECIAL * 2e-3,
        "scanned": SCANNED * 7e-5 + SPECIAL * 3e-3,
    }
    for together, groups in ((False, LAYERS), (True, 1)):
        kept = plain + 2 * (groups * 1e-4 + TENSORS * 1e-6)
        gather, reduction = groups * 2e-4 + TENSORS * 3e-6, groups * 4e-4 + TENSORS * 5e-6
        seconds[Ways("kept", together)] = kept
        seconds[Ways("gathered", together)] = kept + 2 * gather
        seconds[Ways("summed", together)] = kept + gather + reduction
    layers = _layers(seconds)
    assert layers.kernel(is_compiled=False) == pytest.approx(1e-5)
    assert layers.kernel(is_compiled=True) == pytest.approx(7e-5)
    assert layers.group() == pytest.approx(1e-4)
    assert layers.group_tensor() == pytest.approx(1e-6)
    assert layers.gather() == pytest.approx(2e-4)
    assert layers.gather_tensor() == pytest.approx(3e-6)
    assert layers.sum() == pytest.approx(4e-4)
    assert layers.sum_tensor() == pytest.approx(5e-6)
    assert layers.recomputed() == pytest.approx(5e-4)
    assert layers.exchange() == pytest.approx(6e-4)
    assert layers.mixture() == pytest.approx(2e-3)
    assert layers.scan() == pytest.approx(3e-3)
    assert layers.backward(is_compiled=False) == pytest.approx(1e-5)
    assert layers.backward(is_compiled=True) == pytest.approx(7e-5)


def test_on_a_gpu_a_kernel_of_forward_and_one_of_backward_have_figures_of_their_own() -> None:
    """Forward runs again where it is recomputed, and what mixtures take beyond their kernels is the same."""
    forward, backward = 8e-5, 3e-5
    seconds: dict[How | Ways, float] = {
        how: OF_FORWARD[how] * forward + (COUNTS[how] - OF_FORWARD[how]) * backward
        for how in ("plain", "compiled", "recomputed", "mixed")
    }
    seconds["recomputed"] += 2 * LAYERS * 5e-4
    seconds["mixed"] += SPECIAL * 2e-3
    layers = _layers(seconds)

    def passes(make: Callable[[], Passes]) -> tuple[float, ...]:
        (how,) = cast("partial[Passes]", make).args
        return OF_FORWARD[how] * forward, seconds[how] - OF_FORWARD[how] * forward

    cast(Times, layers._watch).host_of_passes = passes  # type: ignore[method-assign]
    for is_compiled in (True, False):
        assert layers.kernel(is_compiled=is_compiled) == pytest.approx(forward)
        assert layers.backward(is_compiled=is_compiled) == pytest.approx(backward)
    assert layers.recomputed() == pytest.approx(5e-4)
    assert layers.mixture() == pytest.approx(2e-3)


def test_a_gpu_alone_gathers_and_sums_nothing() -> None:
    """FSDP2 copies one parameter after the other there, and starts no exchange."""
    seconds: dict[How | Ways, float] = {"plain": 1.0}
    for together in (False, True):
        for how, took in (("kept", 2.0), ("gathered", 4.0), ("summed", 6.0)):
            seconds[Ways(cast(Sharded, how), together)] = took + (not together)
    on_gpu, on_cpu = _layers(seconds, ranks=1), _layers(seconds, replace(H200, device="cpu"), ranks=1)
    for name in ("gather", "gather_tensor", "sum", "sum_tensor"):
        with pytest.raises(NotMeasuredError, match="one rank on each node"):
            getattr(on_gpu, name)()
        assert getattr(on_cpu, name)() > 0.0
    assert min(on_gpu.group(), on_cpu.group()) > 0.0


def test_on_a_cpu_a_kernel_takes_what_the_tables_do_not_have() -> None:
    memory = H200.memory
    assert memory is not None, "measured"
    slower = replace(memory, seconds=tuple(second and second + 1e-6 for second in memory.seconds))
    hardware = (H200, replace(H200, device="cpu"), replace(H200, device="cpu", memory=slower))
    whole, beside, less = (_layers({"plain": 1.0}, one).kernel(is_compiled=False) for one in hardware)
    assert whole == pytest.approx(1.0 / PLAIN)
    of_cpu = PLAIN * ON_CPU // LAYERS
    # All but 7 products with their gradients, and 4 cores, of two layers each are element-wise.
    element_wise = of_cpu - ON_CPU // 2 * (3 * 7 + 2 * 2)
    assert beside - less == pytest.approx(element_wise * 1e-6 / of_cpu)
    assert less < beside < 1.0 / of_cpu


def test_what_noise_hides_is_not_measured() -> None:
    with pytest.raises(NotMeasuredError, match="less than the figures vary by"):
        _layers({"plain": 1.0, Ways("kept"): 0.9, Ways("kept", together=True): 0.95}).group()


@pytest.mark.parametrize(("together", "group", "tensor"), [(2.0, 0.0, 0.8 / TENSORS), (0.01, 0.8 / LAYERS, 0.0)])
def test_noise_leaves_neither_groups_nor_parameters_less_than_nothing(
    together: float, group: float, tensor: float
) -> None:
    """What layers take apart is what the two figures give."""
    layers = _layers({"plain": 1.0, Ways("kept"): 1.8, Ways("kept", together=True): 1.0 + together})
    assert 2 * layers.group() == pytest.approx(group, abs=1e-8)
    assert 2 * layers.group_tensor() == pytest.approx(tensor, abs=1e-8)


def test_without_tables_a_cpus_kernels_are_not_measured() -> None:
    with pytest.raises(NotMeasuredError, match=r"no figures of attention.float32"):
        _layers({"plain": 1.0}, replace(H200, device="cpu", attentions={})).kernel(is_compiled=False)


class Runs(Times):
    """A stopwatch that runs what it would time, twice."""

    def host_of_passes(self, make: Callable[[], Passes]) -> tuple[float, ...]:
        for call in make() * 2:
            call()
        return (1.0,)


def test_compiled_layers_read_two_numbers_of_rows_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their functions are those for any number of rows, as in trainings."""
    read: list[int] = []
    monkeypatch.setattr(host, "apply_compile", lambda _chain: None)
    watch = cast(Stopwatch, Runs("cpu", {}))
    layers = HostLayers(watch, lambda: H200, lambda: cast(DeviceMesh, None), lambda: None, compiles=True)
    whole = layers._chain

    def watched(how: How | Ways) -> Chain:
        chain = whole(how)
        chain.register_forward_pre_hook(lambda _chain, arguments: read.append(arguments[0].shape[0]))
        return chain

    monkeypatch.setattr(layers, "_chain", watched)
    for how in ("plain", "compiled", "mixed", "scanned"):
        layers._seconds(how)
    assert read == [32, 32, *(32, 48) * 3]


def test_layers_that_are_cut_read_half_of_the_rows() -> None:
    layers = _layers({}, replace(H200, device="cpu"))
    for is_cut, own in ((False, 48), (True, 24)):
        inputs, gradient, batch = layers._reading(48, torch.float32, is_cut=is_cut)
        assert (inputs.shape[0], gradient.shape[0], batch.ids.shape[0]) == (own, own, 48)


@pytest.mark.parametrize("how", ["plain", "recomputed", "mixed", "scanned"])
def test_layers_run_in_the_dtype_of_gpus(how: How) -> None:
    """Routers and the dynamics of scans keep their parameters in float32, as in a training."""
    watch = cast(Stopwatch, Runs("cpu", {}))
    layers = HostLayers(watch, lambda: H200, lambda: cast(DeviceMesh, None), lambda: None, compiles=False)
    layers._precision = PrecisionConfig(compute="bfloat16")
    assert layers._seconds(how) == 1.0
