"""Transport of rows in a tensor-parallel group while products run: through peer memory of GPUs, or by collectives.

A transport yields rows span by span, so that the product of a span that has arrived runs while others are on their way.
All ranks of a group call the same methods in the same order with the same shapes.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.errors import RunError
from counterpoint.parallelize.exchange import TensorGroup

Produce = Callable[[slice, Tensor], None]
"""Writes this rank's summand for a span of rows into a tensor."""

Arrival = tuple[slice, Tensor]
"""A span of the gathered rows, and its rows (rows, width)."""


class Transport(Protocol):
    """Rows between the ranks of a group."""

    def arriving(self, shard: Tensor, gathered: Tensor) -> Iterator[Arrival]:
        """Gather the ranks' shards (rows, width) into `gathered` (ranks * rows, width); yields spans as they arrive.

        Kernels launched between two arrivals may run while the later one is on its way. `gathered` is complete once all
        spans have been consumed.
        """
        ...

    def leaving(self, produce: Produce, shard: Tensor) -> Callable[[], Tensor]:
        """Sum over ranks what they `produce`; the function that it returns ends the sum and returns this rank's share.

        The share is shaped like `shard`. Kernels launched before that call may run while rows are on their way.
        """
        ...


@final
class Collectives:
    """Transport by one collective, before or after a single span."""

    def __init__(self, ranks: TensorGroup) -> None:
        self._ranks = ranks

    def arriving(self, shard: Tensor, gathered: Tensor) -> Iterator[Arrival]:
        """All rows, after an all-gather."""
        self._ranks.all_gather(shard, gathered)
        yield slice(None), gathered

    def leaving(self, produce: Produce, shard: Tensor) -> Callable[[], Tensor]:
        """A reduce-scatter after all rows."""
        parts = shard.new_empty((self._ranks.size * shard.shape[0], *shard.shape[1:]))
        produce(slice(None), parts)
        summed = self._ranks.reduce_scatter(parts)
        return lambda: summed


@final
class PeerMemory:
    """Transport by the copy engines of GPUs that reach each other's memory, which takes no compute from the products.

    Each rank has two slots of symmetric memory, used in turn. A gather puts its shard into one, from which the others
    read; a sum writes each rank's part into that rank's slot. Before a call reuses a slot, the barrier of the call
    in between ensures that all ranks are done with it. Copies and barriers have a stream of their own.
    """

    def __init__(self, ranks: TensorGroup) -> None:
        self._ranks = ranks
        self._others = [(ranks.rank + step) % ranks.size for step in range(1, ranks.size)]
        self._stream = torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]
        self._capacity = 0
        self._turn = 0
        self._handle: Any = None
        self._sum = _sum()

    def arriving(self, shard: Tensor, gathered: Tensor) -> Iterator[Arrival]:
        """This rank's own rows at once, then the others' as they are read."""
        slots = self._slots(tuple(shard.shape), shard)
        places = gathered.chunk(self._ranks.size)
        slots[self._ranks.rank].copy_(shard)
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        read = []
        with torch.cuda.stream(self._stream):
            self._handle.barrier()
            for other in self._others:
                places[other].copy_(slots[other])
                read.append((other, self._stream.record_event()))
            places[self._ranks.rank].copy_(shard)
        yield self._span(self._ranks.rank, shard), shard
        for other, event in read:
            current.wait_event(event)
            yield self._span(other, shard), places[other]
        current.wait_stream(self._stream)

    def leaving(self, produce: Produce, shard: Tensor) -> Callable[[], Tensor]:
        """Each part leaves when it is made; this rank's own one is made last."""
        slots = self._slots((self._ranks.size, *shard.shape), shard)
        current = torch.cuda.current_stream()
        parts = []
        for other in self._others:
            part = shard.new_empty(shard.shape)
            produce(self._span(other, shard), part)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                slots[other][self._ranks.rank].copy_(part)
            parts.append(part)
        own = slots[self._ranks.rank]
        produce(self._span(self._ranks.rank, shard), own[self._ranks.rank])
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._handle.barrier()

        def end() -> Tensor:
            current.wait_stream(self._stream)
            parts.clear()  # Their memory may be reused only now that the copies are done.
            return self._sum(own)

        return end

    def _span(self, rank: int, shard: Tensor) -> slice:
        return slice(rank * shard.shape[0], (rank + 1) * shard.shape[0])

    def _slots(self, shape: tuple[int, ...], shard: Tensor) -> list[Tensor]:
        """The next slot of every rank, as tensors of this shape."""
        self._grow(self._ranks.size * torch.Size(shard.shape).numel() * shard.dtype.itemsize)
        self._turn = 1 - self._turn
        offset = self._turn * self._capacity // shard.dtype.itemsize
        return [self._handle.get_buffer(rank, shape, shard.dtype, offset) for rank in range(self._ranks.size)]

    def _grow(self, needed: int) -> None:
        """Make the slots large enough for a sum; all ranks do so alike, since all need the same size."""
        if needed <= self._capacity:
            return
        # Not the whole device, on which transfers may wait for what this rank does later.
        torch.cuda.current_stream().synchronize()
        self._stream.synchronize()
        capacity = 1 << (needed - 1).bit_length()
        try:
            self._handle = _shared(2 * capacity, self._ranks.group)
        except RuntimeError as error:
            raise RunError(
                f"tensor parallelism: {2 * capacity:,} bytes of memory that {self._ranks.size} GPUs share could not be "
                f"had ({str(error).splitlines()[0]}), expected them for products that overlap with their exchange; "
                "use smaller microbatches, or set training.tp_overlap to false"
            ) from error
        self._capacity = capacity


def _shared(size: int, group: dist.ProcessGroup) -> Any:
    """Symmetric memory of `size` bytes on each rank of a group, which all of them read and write."""
    from torch.distributed import _symmetric_memory as symmetric

    device = torch.device("cuda", torch.cuda.current_device())
    try:
        memory = symmetric.empty(size, dtype=torch.uint8, device=device)
    except RuntimeError:
        # It does not come from torch's caching allocator, which may hold the free memory.
        torch.cuda.empty_cache()
        memory = symmetric.empty(size, dtype=torch.uint8, device=device)
    # A rank leaves the rendezvous once all have reached it, and so are done with the old slots.
    return symmetric.rendezvous(memory, group)


def _sum() -> Callable[[Tensor], Tensor]:
    """A function that sums tensors (size, ...) over their first dim."""
    if find_spec("triton") is None:
        return partial(torch.sum, dim=0)
    from counterpoint.parallelize.sum_kernel import summed

    return summed


_WORTH_IT = 2**24
"""Bytes of a shard from which on copies between GPUs are faster than one collective. Shards in float64, the dtype of
`verify`, always use copies, so that `verify` covers them with few rows."""


@final
class Travel:
    """Chooses the transport of a group by device and size: peer memory for many rows, if the GPUs reach each other."""

    def __init__(self, ranks: TensorGroup, name: str, *, overlap: bool) -> None:
        self.size = ranks.size
        self.name = name
        self.overlap = overlap
        self.ranks = ranks
        self._collectives = Collectives(ranks)
        self._peers: PeerMemory | None = None
        self._has_met = False

    def meet(self, device: torch.device) -> None:
        """Find out whether the ranks' GPUs reach each other; all ranks of the group do it together, before any step."""
        if self.overlap and device.type == "cuda" and not self._has_met and _reach_each_other(self.ranks.group):
            self._peers = PeerMemory(self.ranks)
        self._has_met = True

    def of(self, shard: Tensor) -> Transport:
        """The transport for shards such as this one."""
        is_worth_it = shard.dtype == torch.float64 or shard.numel() * shard.element_size() >= _WORTH_IT
        if self._peers is None or not shard.numel() or not is_worth_it:
            return self._collectives
        return self._peers


def _reach_each_other(group: dist.ProcessGroup) -> bool:
    """Whether the ranks of a group can share memory of their GPUs; they try it, and all get the same answer."""
    # Processes share memory if they have the same kernel and the same PID namespace (Linux).
    here = (Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink()))
    visible = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
    mine = (*here, visible[torch.cuda.current_device()])
    found = _told(mine, group)
    others = {device for *_place, device in found} - {mine[-1]}
    is_near = all(tuple(place) == here for *place, _device in found) and len(others) == len(found) - 1
    if not all(_told(is_near and all(_reaches(visible, device) for device in others), group)):
        return False
    try:
        _shared(2**20, group)
    except RuntimeError:
        is_near = False
    return all(_told(is_near, group))


def _reaches(visible: list[str], device: str) -> bool:
    here = torch.cuda.current_device()
    return device in visible and torch.cuda.can_device_access_peer(here, visible.index(device))


Told = TypeVar("Told")


def _told(mine: Told, group: dist.ProcessGroup) -> list[Told]:
    """Every rank's value, in rank order."""
    found = [mine] * dist.get_world_size(group=group)
    dist.all_gather_object(found, mine, group=group)
    return found
