"""What operations cost on one kind of machine, in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log, log2
from typing import Literal, TypeVar, final

from counterpoint.costs.host import LAUNCHES_IF_COMPILED, LAUNCHES_IF_NOT, NOT_MEASURED, Host, HostWork
from counterpoint.costs.table import Table
from counterpoint.errors import InputError

_Known = TypeVar("_Known")

Collective = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all"]
COLLECTIVES: tuple[Collective, ...] = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")

DTYPES = ("float64", "float32", "bfloat16", "float16")

FLOPS_PER_PAIR = 4
"""Forward FLOPs of one visible query-key pair for each column of a head: two products of two each."""

BACKWARD_PRODUCTS = 2.5
"""Attention's backward computes five products where its forward computes two."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Seconds of a forward, and of its backward alone."""

    forward: Table
    backward: Table


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Seconds of each row of each head, by head size and visible keys per row.

    Documents of equal length that fill the rows have kernels of their own where `even` is there. Fewer than
    `least_rows` rows of heads do not fill the device and take as long as these.
    """

    packed: Ways
    even: Ways | None
    least_rows: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Links between nodes: what one rank sends over its own, and the delay of a step from node to node."""

    bytes_per_second: float
    latency_seconds: float


@final
@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The speed of one kind of machine; all methods return seconds, and raise InputError where there are no figures.

    Nothing costs less when it is larger, and no product less than at the peak rate. Seconds hold while all ranks of a
    node work; while the others wait, an operation takes `alone` of them.
    """

    name: str
    source: Literal["measured", "assumed"]
    """Whether the figures were measured on such a machine."""
    origin: str
    """Where they are from, in words."""
    device: Literal["cuda", "cpu"]
    memory_bytes: int
    """Memory of one rank."""
    ranks_per_node: int
    launch_seconds: float
    """The host's time to start one kernel; a GPU's own seconds do not include it."""
    host: Host = NOT_MEASURED
    """What the host takes for the layers of a step."""
    alone: float = 1.0
    peaks: Mapping[str, float]
    """FLOPs per second that no product exceeds, by dtype."""
    products: Mapping[str, Table] = field(default_factory=dict)
    """By the smallest of the three sizes and the product of the two others."""
    grouped: Mapping[str, Table] = field(default_factory=dict)
    """Seconds of one group, by its rows and the elements of its weight."""
    attentions: Mapping[str, Attention] = field(default_factory=dict)
    scans: Mapping[str, Ways] = field(default_factory=dict)
    """By rows x heads x head size x state."""
    memory: Table | None = None
    """By bytes that one kernel reads and writes."""
    copies: Table | None = None
    """By bytes of the tensor copied."""
    host_copies: Table | None = None
    """By bytes, from the device to the host or back."""
    updates: Table | None = None
    """The optimizer's update, by parameters of this rank."""
    collectives: Mapping[Collective, Mapping[int, Table]] = field(default_factory=dict)
    """Inside a node, by the number of ranks, then by the bytes that one rank sends."""
    transfers: Table | None = None
    """From one rank to another of the same node, by bytes."""
    network: Network | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    """Versions and the machine's name, for people."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    filled: tuple[str, ...] = ()
    """What was taken from other hardware instead of being measured."""

    def peak_flops(self, dtype: str) -> float:
        """FLOPs per second that no product exceeds."""
        return self._of_dtype(self.peaks, dtype, "products")

    def product(self, rows: int, inner: int, columns: int, dtype: str) -> float:
        """A product (rows, inner) x (inner, columns)."""
        small, middle, large = sorted((rows, inner, columns))
        seconds = self._of_dtype(self.products, dtype, "products").at(small, middle * large)
        return max(seconds, 2.0 * rows * inner * columns / self.peaks[dtype])

    def grouped_product(self, groups: int, rows: int, inner: int, columns: int, dtype: str) -> float:
        """Products of `groups` weights (inner, columns) with `rows` rows in all, dealt to them evenly, in one call."""
        if not groups:
            return 0.0
        seconds = groups * self._of_dtype(self.grouped, dtype, "grouped").at(rows / groups, inner * columns)
        return max(seconds, 2.0 * rows * inner * columns / self.peaks[dtype])

    def attention(
        self, pairs: int, rows: int, heads: int, head_dim: int, dtype: str, backward: bool, even: bool = False
    ) -> float:
        """Attention over `pairs` visible query-key pairs of `rows` rows, its forward or its backward alone.

        For `heads` query heads; more pairs of as many rows cost no less. `even`: all documents of the run have the
        same length, and fill the rows.
        """
        if not pairs or not rows:
            return 0.0
        known = self._of_dtype(self.attentions, dtype, "attention")
        ways = known.even if even and known.even is not None else known.packed
        table = ways.backward if backward else ways.forward
        seconds = table.at(head_dim, pairs / rows) * max(rows * heads, known.least_rows)
        flops = FLOPS_PER_PAIR * pairs * heads * head_dim * (BACKWARD_PRODUCTS if backward else 1.0)
        return max(seconds, flops / self.peaks[dtype])

    def scan(self, rows: int, heads: int, head_dim: int, state: int, dtype: str, backward: bool) -> float:
        """Mamba-2's convolutions and scan, their forward or their backward alone."""
        known = self._of_dtype(self.scans, dtype, "scans")
        return (known.backward if backward else known.forward).at(rows * heads * head_dim * state)

    def elementwise(self, size_bytes: int) -> float:
        """One kernel that reads and writes so many bytes in all."""
        return self._there(self.memory, "memory").at(size_bytes)

    def copy(self, size_bytes: int) -> float:
        """A copy of a tensor of so many bytes on the device."""
        return self._there(self.copies, "copies").at(size_bytes)

    def to_host(self, size_bytes: int) -> float:
        """A copy of so many bytes from the device to the host, or back."""
        return self._there(self.host_copies, "host_copies").at(size_bytes)

    def update(self, parameters: int) -> float:
        """AdamW's update of so many parameters of one rank, in the dtype in which they are stored."""
        return self._there(self.updates, "updates").at(parameters)

    def collective(self, kind: Collective, size_bytes: int, ranks: int, nodes: int = 1) -> float:
        """A collective of `ranks` ranks that lie on `nodes` nodes in equal numbers.

        `size_bytes` is the whole tensor: what an all-gather makes on each rank, what a reduce-scatter reads on each,
        what an all-reduce replaces, and what a rank of an all-to-all sends in all, its own share included.
        """
        if ranks <= 1 or not size_bytes:
            return 0.0
        nodes = max(1, min(nodes, ranks))
        here = max(ranks // nodes, 1)
        sent = size_bytes * (2 if kind == "all_reduce" else 1)
        inside = self._inside(kind, sent * (here - 1) / here, here) if here > 1 else 0.0
        return max(inside, self._across(kind, sent, here, nodes)) if nodes > 1 else inside

    def transfer(self, size_bytes: int, nodes: int = 1) -> float:
        """Rows from one rank to another, of the same node or, with 2 `nodes`, of another."""
        if not size_bytes:
            return 0.0
        inside = self._there(self.transfers, "transfers").at(size_bytes)
        if nodes <= 1:
            return inside
        network = self._there(self.network, "network")
        return max(inside, network.latency_seconds + size_bytes / network.bytes_per_second)

    def host_seconds(self, work: HostWork, *, is_compiled: bool) -> float:
        """What a rank's host takes for its work; what was not measured follows from the launch of a kernel.

        Beside kernels that is as much whether layers are compiled or not.
        """
        beside, instead = self.host.beside_kernels(work)
        forward, backward = self.host_kernels(is_compiled=is_compiled)
        # What counts as kernels is called in either pass.
        either = sum(self.host_kernels(is_compiled=self.device == "cuda")) / 2
        return beside + work.kernels * forward + work.backward_kernels * backward + instead * either

    def host_kernels(self, *, is_compiled: bool) -> tuple[float, float]:
        """What its host takes for one kernel of a layer, in forward and in backward."""
        measured = self.host.kernels(is_compiled=is_compiled)
        if measured is not None:
            return measured
        of_gpu = LAUNCHES_IF_COMPILED if is_compiled else LAUNCHES_IF_NOT
        launches = of_gpu if self.device == "cuda" else 1
        return launches * self.launch_seconds, launches * self.launch_seconds

    def _inside(self, kind: Collective, sent: float, ranks: int) -> float:
        """Inside one node; more ranks than were measured count as the most that were.

        Between two numbers of ranks the logarithm of the seconds is linear in that of the number.
        """
        tables = self._there(self.collectives.get(kind), f"collectives.{kind}")
        low = max((count for count in tables if count <= ranks), default=min(tables))
        high = min((count for count in tables if count >= ranks), default=max(tables))
        share = log(ranks / low) / log(high / low) if low < high else 0.0
        return exp((1.0 - share) * log(tables[low].at(sent)) + share * log(tables[high].at(sent)))

    def _across(self, kind: Collective, sent: float, here: int, nodes: int) -> float:
        """Between nodes: the ranks of a node share what has to leave it, each over its own link.

        A ring passes every node, a tree (all-reduce) the logarithm of their number; an all-to-all sends to each.
        """
        network = self._there(self.network, "network")
        steps = 2.0 * log2(nodes) if kind == "all_reduce" else nodes - 1.0
        leaving = sent * (nodes - 1) / nodes / (1 if kind == "all_to_all" else here)
        return steps * network.latency_seconds + leaving / network.bytes_per_second

    def _of_dtype(self, known: Mapping[str, _Known], dtype: str, what: str) -> _Known:
        return self._there(known.get(dtype), f"{what}.{dtype}")

    def _there(self, found: _Known | None, what: str) -> _Known:
        if found is None:
            reason = self.missing.get(what, "never measured")
            raise InputError(
                f"{self.name}: got no figures of {what} ({reason}), expected them for this plan; choose other "
                "hardware, or fill gaps with counterpoint calibrate --fill-from"
            )
        return found


def peak_of(products: Table) -> float:
    """FLOPs per second of the fastest product of a table."""
    smallest, others = (axis.values for axis in products.axes)
    sizes = (small * area for small in smallest for area in others)
    pairs = zip(sizes, products.seconds, strict=True)
    return max(2 * size / seconds for size, seconds in pairs if seconds is not None)
