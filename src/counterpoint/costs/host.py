"""What a host does for the layers of a step, and the seconds that it takes for each on one kind of machine."""

from dataclasses import dataclass, fields
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HostWork:
    """How often a host does what in a part of a step.

    `groups` are passes, forward or backward, of a group of sharded parameters; `recomputed` those of a layer that is
    recomputed. Exchanges inside layers, mixtures of experts and scans count where they are called, in forward;
    `tensors` are those that an update changes.
    """

    kernels: int = 0
    groups: int = 0
    gathers: int = 0
    sums: int = 0
    recomputed: int = 0
    transfers: int = 0
    exchanges: int = 0
    mixtures: int = 0
    scans: int = 0
    tensors: int = 0

    @property
    def launches(self) -> int:
        """Entries of a device's queue."""
        several = self.kernels + self.groups * _KERNELS_OF_GROUP + self.gathers * _KERNELS_OF_GATHER
        several += self.sums * _KERNELS_OF_SUM + self.transfers * _KERNELS_OF_TRANSFER
        return _LAUNCHES_OF_KERNEL * several

    def __add__(self, other: "HostWork") -> "HostWork":
        return HostWork(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


NO_WORK = HostWork()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Seconds of a host, all of what it runs for it included: modules, autograd, hooks; None was not measured.

    On a CPU, whose tables contain the start of their kernels, they are what comes on top of these tables.
    """

    compiled_kernel: float | None = None
    """One kernel of a layer that is compiled."""
    plain_kernel: float | None = None
    """One kernel of a layer that is not."""
    group: float | None = None
    """A group of sharded parameters in a pass that neither gathers it nor sums its gradients."""
    gather: float | None = None
    """What starting the gather of a group adds."""
    sum: float | None = None
    """What starting the sum of a group's gradients adds."""
    recomputed: float | None = None
    """A layer that is recomputed, in a pass, beside its kernels."""
    exchange: float | None = None
    """An exchange of rows between the ranks of a layer, forward and backward, beside its kernels."""
    mixture: float | None = None
    """A mixture of experts, forward and backward, beside its kernels."""
    scan: float | None = None
    """A layer with a scan, forward and backward, beside its kernels."""

    def kernel(self, *, is_compiled: bool) -> float | None:
        """One kernel of a layer."""
        return self.compiled_kernel if is_compiled else self.plain_kernel

    def measured(self) -> dict[str, float]:
        """What was measured, by name."""
        found = {name: getattr(self, name) for name in FIGURES}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def beside_kernels(self, work: HostWork) -> tuple[float, int]:
        """The seconds of all but kernels, and the kernels, among which what was not measured counts as several."""
        seconds, kernels = 0.0, work.kernels + work.transfers * _KERNELS_OF_TRANSFER + work.tensors * _KERNELS_OF_TENSOR
        for count, each, instead in (
            (work.groups, self.group, _KERNELS_OF_GROUP),
            (work.gathers, self.gather, _KERNELS_OF_GATHER),
            (work.sums, self.sum, _KERNELS_OF_SUM),
            (work.recomputed, self.recomputed, _KERNELS_OF_RECOMPUTED),
            (work.exchanges, self.exchange, _KERNELS_OF_EXCHANGE),
            (work.mixtures, self.mixture, _KERNELS_OF_MIXTURE),
            (work.scans, self.scan, _KERNELS_OF_SCAN),
        ):
            if each is None:
                kernels += count * instead
            else:
                seconds += count * each
        return seconds, kernels


FIGURES = tuple(each.name for each in fields(Host))
"""Names of what may be measured of a host."""

NOT_MEASURED = Host()

LAUNCHES_IF_COMPILED, LAUNCHES_IF_NOT = 5, 2
"""A kernel of a layer, in launches of one small kernel, on a GPU's host that was not measured: 70 us where a launch
takes 12 us on the hosts of two H200, for layers that are compiled, which have fewer kernels and guards around them; for
others it is assumed."""

_KERNELS_OF_GROUP, _KERNELS_OF_GATHER, _KERNELS_OF_SUM, _KERNELS_OF_RECOMPUTED = 4, 9, 9, 18
"""The rest there: a group that is gathered in every pass took 0.8 to 1.0 ms, and a layer that is recomputed, with
contexts and hooks of saved tensors, 1.3 ms."""

_KERNELS_OF_EXCHANGE, _KERNELS_OF_MIXTURE, _KERNELS_OF_SCAN = 5, 36, 36
"""What the forward of layers takes beyond their kernels where the host bounds it, on two H200 again: 28 ms more of 98
exchanges of an encoder over tp, 38 ms more of 8 mixtures and 9 scans, of which nobody knows the parts
(benchmarks/results/predicted_2xh200.json)."""

_LAUNCHES_OF_KERNEL = 2
"""Kernels and copies that a device runs for one that is counted: 22,298 for 10,080 of an encoder's eight microbatches,
16,741 for 11,072 of a hybrid decoder's (benchmarks/results/hybrid_vlm_disjoint8_first_profiled_2xh200.json)."""

_KERNELS_OF_TENSOR = 1
"""What a step that the host bounds takes there beyond its computes, 20 to 30 ms for 640 tensors."""

_KERNELS_OF_TRANSFER = 10
"""A transfer on a GPU's host, nowhere measured by itself."""
