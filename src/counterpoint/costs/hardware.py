"""What operations cost on one kind of machine, in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log2
from typing import Literal, TypeVar, final

from counterpoint.costs.table import Table
from counterpoint.errors import InputError

Collective = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all"]
COLLECTIVES: tuple[Collective, ...] = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")

_Known = TypeVar("_Known")

DTYPES = ("float64", "float32", "bfloat16", "float16")

FLOPS_PER_PAIR = 4
"""Forward FLOPs of one visible query-key pair for each feature of a head: two products of two each."""

BACKWARD_PRODUCTS = 2.5
"""Backward of attention computes five products where forward computes two."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Seconds for each row of a head, by head size and visible keys per row.

    Fewer than `least_rows` rows of heads, which do not fill the device, take as long as these.
    """

    forward: Table
    backward: Table
    least_rows: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Links between nodes: what one rank sends over them, and the delay of one step from node to node."""

    bytes_per_second: float
    latency_seconds: float


@final
@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The speed of one kind of machine; all methods return seconds.

    Nothing costs less when it is larger, and no product less than at the peak rate. `source` says whether the figures
    were measured on such a machine or are assumed, `origin` in words where they are from and what is missing. Seconds
    hold while all ranks of a node work; while the others wait, an operation takes `alone` of them. `launch_seconds` is
    what the host needs to start one kernel; the device's own seconds do not include it.
    """

    name: str
    source: Literal["measured", "assumed"]
    origin: str
    device: Literal["cuda", "cpu"]
    memory_bytes: int
    ranks_per_node: int
    launch_seconds: float
    alone: float = 1.0
    peaks: Mapping[str, float]
    """FLOPs per second that no product exceeds, by dtype."""
    products: Mapping[str, Table]
    """By the smallest of the three sizes and the product of the two others."""
    grouped: Mapping[str, Table]
    """Seconds of one group, by its rows and the elements of its weight."""
    attentions: Mapping[str, Attention]
    scans: Mapping[str, tuple[Table, Table]]
    """Forward and backward, by rows x heads x head size x state."""
    memory: Table
    """By bytes read and written, of one kernel."""
    copies: Table
    """By bytes of the tensor copied."""
    host_copies: Table
    """By bytes, from the device to the host or back."""
    updates: Table
    """The optimizer's update, by parameters of this rank."""
    collectives: Mapping[Collective, Table]
    """Inside a node, by ranks and the bytes that one rank sends."""
    transfers: Table
    """From one rank to another of the same node, by bytes."""
    network: Network | None
    machine: Mapping[str, str] = field(default_factory=dict)
    """Versions and the machine's name, for people."""

    def peak_flops(self, dtype: str) -> float:
        """FLOPs per second that no product exceeds; raises InputError for a dtype without figures."""
        return self._of(self.peaks, dtype, "peak")

    def product(self, rows: int, inner: int, columns: int, dtype: str) -> float:
        """A product (rows, inner) x (inner, columns)."""
        small, middle, large = sorted((rows, inner, columns))
        seconds = self._of(self.products, dtype, "product").at(small, middle * large)
        return max(seconds, 2.0 * rows * inner * columns / self.peaks[dtype])

    def grouped_product(self, groups: int, rows: int, inner: int, columns: int, dtype: str) -> float:
        """Products of `groups` weights (inner, columns) with `rows` rows in all, dealt to them evenly, in one call."""
        if not groups:
            return 0.0
        table = self._of(self.grouped, dtype, "grouped product")
        seconds = groups * table.at(rows / groups, inner * columns)
        return max(seconds, 2.0 * rows * inner * columns / self.peaks[dtype])

    def attention(self, pairs: int, rows: int, heads: int, head_dim: int, dtype: str, backward: bool) -> float:
        """Attention over `pairs` visible query-key pairs of `rows` rows, its forward or its backward alone.

        For `heads` query heads; longer documents of as many rows cost no less.
        """
        if not pairs or not rows:
            return 0.0
        known = self._of(self.attentions, dtype, "attention")
        table = known.backward if backward else known.forward
        seconds = table.at(head_dim, pairs / rows) * max(rows * heads, known.least_rows)
        flops = FLOPS_PER_PAIR * pairs * heads * head_dim * (BACKWARD_PRODUCTS if backward else 1.0)
        return max(seconds, flops / self.peaks[dtype])

    def scan(self, rows: int, heads: int, head_dim: int, state: int, dtype: str, backward: bool) -> float:
        """Mamba-2's scan, its forward or its backward alone."""
        return self._of(self.scans, dtype, "scan")[backward].at(rows * heads * head_dim * state)

    def elementwise(self, size_bytes: int) -> float:
        """One kernel that reads and writes so many bytes in all."""
        return self.memory.at(size_bytes)

    def copy(self, size_bytes: int) -> float:
        """A copy of a tensor of so many bytes on the device."""
        return self.copies.at(size_bytes)

    def to_host(self, size_bytes: int) -> float:
        """A copy of so many bytes from the device to the host, or back."""
        return self.host_copies.at(size_bytes)

    def update(self, parameters: int) -> float:
        """AdamW's update of so many parameters on one rank."""
        return self.updates.at(parameters)

    def collective(self, kind: Collective, size_bytes: int, ranks: int, nodes: int = 1) -> float:
        """A collective of `ranks` ranks that lie on `nodes` nodes in equal numbers.

        `size_bytes` is the whole tensor: what an all-gather makes on each rank, what a reduce-scatter reads on each,
        what an all-reduce replaces, and what a rank of an all-to-all sends in all, its own share included.
        """
        if ranks <= 1 or not size_bytes:
            return 0.0
        nodes = max(1, min(nodes, ranks))
        times = 2 if kind == "all_reduce" else 1
        here = max(ranks // nodes, 1)
        seconds = 0.0
        if here > 1:
            seconds = self._inside(kind, times * size_bytes * (here - 1) / here, here)
        if nodes > 1:
            seconds = max(seconds, self._across(kind, times * size_bytes, here, nodes))
        return seconds

    def transfer(self, size_bytes: int, nodes: int = 1) -> float:
        """Rows from one rank to another, of the same node or, with 2 `nodes`, of another."""
        if not size_bytes:
            return 0.0
        if nodes <= 1:
            return self.transfers.at(size_bytes)
        network = self._links()
        return max(self.transfers.at(size_bytes), network.latency_seconds + size_bytes / network.bytes_per_second)

    def _inside(self, kind: Collective, sent: float, ranks: int) -> float:
        """Inside one node; between the numbers of ranks measured the logarithm is linear in theirs."""
        table = self.collectives[kind]
        known = table.axes[0].values
        return table.at(min(max(ranks, known[0]), known[-1]), sent)

    def _across(self, kind: Collective, sent: float, here: int, nodes: int) -> float:
        """Between nodes: all ranks of a node share what has to leave it, each over its own link.

        A ring passes every node, a tree (all-reduce) the logarithm of their number; an all-to-all sends to each.
        """
        network = self._links()
        steps = 2.0 * log2(nodes) if kind == "all_reduce" else nodes - 1.0
        leaving = sent * (nodes - 1) / nodes / (1 if kind == "all_to_all" else here)
        return steps * network.latency_seconds + leaving / network.bytes_per_second

    def _links(self) -> Network:
        if self.network is None:
            raise InputError(
                f"{self.name}: got ranks on several nodes but no figures of a network, expected all ranks on one node; "
                "name hardware with a network, or measure on the nodes"
            )
        return self.network

    def _of(self, known: Mapping[str, _Known], dtype: str, what: str) -> _Known:
        if dtype not in known:
            raise InputError(
                f"{self.name}: got {dtype} for a {what}, expected one of {', '.join(known)}; name hardware that was "
                "measured with it, or choose another dtype"
            )
        return known[dtype]
