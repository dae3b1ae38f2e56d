"""What a host does for the layers of a step, and the seconds that it takes for each on one kind of machine."""

from dataclasses import dataclass, fields
from operator import add, attrgetter
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HostWork:
    """How often a host does what in a part of a step.

    `groups` are passes, forward or backward, of a group of sharded parameters, `gathers` and `sums` what such passes
    begin; `group_tensors`, `gathered_tensors` and `summed_tensors` count the parameters of those groups. `recomputed`
    are passes of a layer that is recomputed. Exchanges inside layers, mixtures of experts and scans count where they
    are called, in forward. `updated_tensors` are those that an update changes. Kernels of forward that run again in
    backward are forward's.
    """

    kernels: int = 0
    backward_kernels: int = 0
    groups: int = 0
    group_tensors: int = 0
    gathers: int = 0
    gathered_tensors: int = 0
    sums: int = 0
    summed_tensors: int = 0
    recomputed: int = 0
    transfers: int = 0
    exchanges: int = 0
    mixtures: int = 0
    scans: int = 0
    updated_tensors: int = 0

    @property
    def launches(self) -> int:
        """Entries of a device's queue."""
        return LAUNCHES_OF_KERNEL * (self.kernels + self.backward_kernels)

    def __add__(self, other: "HostWork") -> "HostWork":
        return HostWork(**dict(zip(_KINDS, map(add, _counts(self), _counts(other)), strict=True)))


_KINDS = tuple(each.name for each in fields(HostWork))
_counts = attrgetter(*_KINDS)

NO_WORK = HostWork()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Seconds of a host, all of what it runs for it included: modules, autograd, hooks; None was not measured.

    On a CPU, whose tables contain the start of their kernels, they are what comes on top of these tables.
    """

    compiled_kernel: float | None = None
    """One kernel of a layer that is compiled."""
    compiled_backward: float | None = None
    """One kernel of its backward; as long as any other where it was not measured apart."""
    plain_kernel: float | None = None
    """One kernel of a layer that is not compiled."""
    plain_backward: float | None = None
    """One kernel of its backward; as above."""
    group: float | None = None
    """A group of sharded parameters in a pass that neither gathers it nor sums its gradients."""
    group_tensor: float | None = None
    """Each of its parameters."""
    gather: float | None = None
    """What starting the gather of a group adds."""
    gather_tensor: float | None = None
    """What each of its parameters adds to that."""
    sum: float | None = None
    """What starting the sum of a group's gradients adds."""
    sum_tensor: float | None = None
    """What each of its parameters adds to that."""
    recomputed: float | None = None
    """A layer that is recomputed, in a pass, beside its kernels."""
    exchange: float | None = None
    """An exchange of rows between the ranks of a layer, forward and backward, beside its kernels."""
    mixture: float | None = None
    """A mixture of experts, forward and backward, beside its kernels."""
    scan: float | None = None
    """A layer with a scan, forward and backward, beside its kernels."""

    def kernels(self, *, is_compiled: bool) -> tuple[float, float] | None:
        """One kernel of a layer, in forward and in backward."""
        kernel = self.compiled_kernel if is_compiled else self.plain_kernel
        backward = self.compiled_backward if is_compiled else self.plain_backward
        return None if kernel is None else (kernel, kernel if backward is None else backward)

    def measured(self) -> dict[str, float]:
        """What was measured, by name."""
        found = {name: getattr(self, name) for name in FIGURES}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    def beside_kernels(self, work: HostWork) -> tuple[float, float]:
        """The seconds of all but kernels, and as how many kernels counts what of it was not measured."""
        seconds, kernels = 0.0, 0.0
        for name, (figure, instead) in KERNELS_INSTEAD.items():
            count = getattr(work, name)
            each = None if figure is None else getattr(self, figure)
            if each is None:
                kernels += count * instead
            else:
                seconds += count * each
        return seconds, kernels


FIGURES = tuple(each.name for each in fields(Host))
"""Names of what may be measured of a host."""

NOT_MEASURED = Host()

LAUNCHES_IF_COMPILED, LAUNCHES_IF_NOT = 5, 2
"""A kernel of a layer, in launches of one small kernel, on a GPU's host that was not measured: 50 and 70 us where a
launch takes 12 us, on the hosts of two machines with H200, for layers that are compiled, which have fewer kernels and
guards around them; for others it is assumed."""

KERNELS_INSTEAD: dict[str, tuple[str | None, float]] = {
    "groups": ("group", 2.5),
    "group_tensors": ("group_tensor", 0.1),
    "gathers": ("gather", 8.0),
    "gathered_tensors": ("gather_tensor", 0.2),
    "sums": ("sum", 8.0),
    "summed_tensors": ("sum_tensor", 0.2),
    "recomputed": ("recomputed", 18.0),
    "exchanges": ("exchange", 5.0),
    "mixtures": ("mixture", 36.0),
    "scans": ("scan", 36.0),
    "transfers": (None, 10.0),
    "updated_tensors": (None, 1.0),
}
"""By the work, the figure of it and how many kernels it counts as where that was not measured: of compiled layers, on a
CPU of others.

On the hosts of two H200 (benchmarks/results/predicted_2xh200.json and hardware_2xh200.json) groups of 4.5 parameters
took 0.16 ms in a pass, and 0.54 ms more with a gather or a sum; each parameter has the share of it that it has on a CPU
(150 + 6 n, 100 + 13 n and 170 + 10 n us for n parameters, torch 2.13). A layer that is recomputed, with contexts and
hooks of saved tensors, took 1.3 ms. Where the host bounds forward, 98 exchanges of an encoder over tp took 28 ms beyond
their kernels, and 8 mixtures and 9 scans 38 ms, of which nobody knows the parts. Steps that the host bounds took 20 to
30 ms beyond their computes, for 640 tensors. A transfer was nowhere measured by itself."""

LAUNCHES_OF_KERNEL = 2
"""Kernels and copies that a device runs for one that is counted: 22,298 for 10,080 of an encoder's eight microbatches,
16,741 for 11,072 of a hybrid decoder's (benchmarks/results/hybrid_vlm_disjoint8_first_profiled_2xh200.json)."""
