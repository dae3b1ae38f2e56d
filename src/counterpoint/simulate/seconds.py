"""Seconds of operations on hardware: what the device computes, what it waits for, and what the host launches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import HostWork
from counterpoint.simulate.operations import Core, Exchange, HostCopy, Operation, Product, Traffic

Spans = Callable[[str], tuple[int, int]]
"""The ranks of an axis's group, and the nodes that they lie on."""

_CORE_KERNELS = 2

_PLAIN_IN_ONE = 3
"""Kernels launched one by one in the time of one of a compiled region, which has guards around it."""

_BARRIER_SECONDS = 30e-6
"""A barrier of a group's ranks in shared memory, with the time by which they come apart."""


@final
@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of a piece of work on one rank: `compute` on the device, `exchange` that nothing hides, `copy` to and
    from the host beside it, and the number of kernels and collectives that the host launches."""

    compute: float = 0.0
    exchange: float = 0.0
    copy: float = 0.0
    kernels: int = 0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(
            self.compute + other.compute,
            self.exchange + other.exchange,
            self.copy + other.copy,
            self.kernels + other.kernels,
        )

    def on(self, hardware: Hardware, *, is_compiled: bool) -> float:
        """The time from its begin to its end, without a bound by the host where a device runs behind it."""
        work = HostWork(kernels=self.kernels)
        host = hardware.host_seconds(work, is_compiled=is_compiled) if hardware.device == "cpu" else 0.0
        return max(self.compute + self.exchange + host, self.copy)


def seconds_of(operations: Iterable[Operation], hardware: Hardware, dtype: str, spans: Spans) -> Seconds:
    """The sum over operations; exchanges of a group of one rank take nothing."""
    compute = exchange = copy = 0.0
    launched = 0
    for one in operations:
        launched += _kernels(one)
        match one:
            case Product():
                compute += _product(one, hardware, dtype)
            case Core():
                compute += _core(one, hardware, dtype)
            case Traffic(size_bytes=size, kernels=kernels):
                compute += kernels * hardware.elementwise(size // max(1, kernels))
            case Exchange():
                exchange += _exposed(one, hardware, dtype, spans)
            case HostCopy(size_bytes=size):
                copy += hardware.to_host(size)
    return Seconds(compute, exchange, copy, launched)


def kernels_of(operations: Iterable[Operation]) -> int:
    """Kernels and collectives that the host launches for operations, on any hardware."""
    return sum(map(_kernels, operations))


def calls_of(forward: Iterable[Operation]) -> HostWork:
    """What the host does for a part's forward beside launching its kernels. Rows that travel in parts do so by calls
    that ranks make together before and after each."""
    exchanges = mixtures = scans = 0
    for one in forward:
        match one:
            case Exchange(by_parts=by_parts):
                exchanges += 2 if by_parts else 1
            case Traffic(plain=True):
                mixtures += 1
            case Core(state=state) if state:
                scans += 1
    return HostWork(exchanges=exchanges, mixtures=mixtures, scans=scans)


def _kernels(one: Operation) -> int:
    match one:
        case Core():
            return _CORE_KERNELS
        case Traffic(kernels=kernels, plain=plain):
            return kernels // _PLAIN_IN_ONE if plain else kernels
        case _:
            return 1


def _product(one: Product, hardware: Hardware, dtype: str) -> float:
    if not (one.rows and one.inner and one.columns):
        return 0.0
    if one.groups > 1:
        return one.share * hardware.grouped_product(one.groups, one.rows, one.inner, one.columns, dtype)
    return one.share * hardware.product(one.rows, one.inner, one.columns, dtype)


def _core(one: Core, hardware: Hardware, dtype: str) -> float:
    if one.state:
        return hardware.scan(one.rows, one.heads, one.width, one.state, dtype, one.backward)
    return hardware.attention(one.pairs, one.rows, one.heads, one.width, dtype, one.backward, even=one.even)


def _exposed(one: Exchange, hardware: Hardware, dtype: str, spans: Spans) -> float:
    """What remains of an exchange after the products beside it, which a CPU cannot compute meanwhile."""
    ranks, nodes = spans(one.axis)
    whole = hardware.collective(one.kind, one.size_bytes, ranks, nodes)
    if hardware.device == "cpu" or ranks == 1:
        return whole
    hidden = sum(_product(product, hardware, dtype) for product in one.beside)
    if one.by_parts:
        # Rows are copied from memory to memory, one rank's after the other, behind a barrier.
        whole = (ranks - 1) * hardware.transfer(one.size_bytes // ranks, nodes) + _BARRIER_SECONDS
        hidden += sum(_product(product, hardware, dtype) for product in one.by_parts) * (ranks - 1) / ranks
    return max(0.0, whole - hidden)
