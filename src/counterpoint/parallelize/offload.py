"""Activations wait for backward in the host's memory: each is copied there in forward and back shortly before its use.

On a GPU the copies run on streams of their own, from and to pinned memory. Backward takes tensors in the opposite order
of forward: when it takes one, those saved shortly before it begin to come back.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

_SMALLEST = 2**20
"""Bytes from which a tensor of a GPU is worth a copy."""

_AHEAD = 2**28
"""Bytes that begin to come back before they are needed, or one tensor if that has more."""


@final
class HostStore:
    """Holds tensors in the host's memory, those of a forward inside of `scope`.

    Weights stay where they are, and so do integers and small tensors of a GPU.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, _Streams] = {}
        self._last: weakref.ref[_Moved] | None = None
        self._weights: Callable[[], Iterable[Tensor]] = tuple
        # The tensors stay alive in the scope, so that an address stands for one tensor.
        self._moved: dict[_Key, tuple[Tensor, _Moved]] = {}

    @contextmanager
    def scope(self, weights: Callable[[], Iterable[Tensor]]) -> Iterator[None]:
        """The forward of one layer with these weights; a tensor that is saved several times is copied once."""
        self._weights = weights
        try:
            yield
        finally:
            self._weights = tuple
            self._moved.clear()

    def pack(self, tensor: Tensor) -> Any:
        """The tensor itself, or where its copy is."""
        if not self._is_worth(tensor):
            return tensor
        key = _Key(_address(tensor), int(tensor.storage_offset()), tensor.numel(), tensor.dtype)
        if key not in self._moved:
            if self._is_weight(key.address):
                return tensor
            moved = _Moved(tensor, self._streams_of(tensor.device), self._last)
            self._moved[key] = tensor, moved
            self._last = weakref.ref(moved)
        return _Packed(self._moved[key][1], tensor.size(), tensor.stride())

    def unpack(self, packed: Any) -> Tensor:
        """The tensor on its device; the current stream waits for it."""
        if isinstance(packed, Tensor):
            return packed
        assert isinstance(packed, _Packed)
        found = packed.moved.take()
        packed.moved.fetch_earlier()
        return found.as_strided(packed.size, packed.stride)

    def _is_worth(self, tensor: Tensor) -> bool:
        is_plain = type(tensor) is Tensor and tensor.is_floating_point()
        # A copy has the same strides where no element is left out or occurs twice.
        return is_plain and _is_dense(tensor) and (not tensor.is_cuda or tensor.nbytes >= _SMALLEST)

    def _is_weight(self, address: int) -> bool:
        # Asked anew: FSDP2 gathers what has a group of its own inside a layer, such as experts, during its forward.
        gathered = (one for one in self._weights() if not isinstance(one, DTensor))
        return any(_address(one) == address for one in gathered)

    def _streams_of(self, device: torch.device) -> "_Streams | None":
        if device.type != "cuda":
            return None
        if device not in self._streams:
            self._streams[device] = _Streams(*(torch.cuda.Stream(device) for _way in _Streams._fields))  # type: ignore[no-untyped-call]
        return self._streams[device]


class _Key(NamedTuple):
    """What of a storage a tensor is, whatever its strides."""

    address: int
    offset: int
    elements: int
    dtype: torch.dtype


class _Streams(NamedTuple):
    """Streams of a device for copies from it and to it."""

    leaving: torch.cuda.Stream
    arriving: torch.cuda.Stream


class _Packed(NamedTuple):
    """A tensor of a graph: a view of one that was moved."""

    moved: "_Moved"
    size: torch.Size
    stride: tuple[int, ...]


@final
class _Moved:
    """A tensor in the host's memory, from forward until its backward is over."""

    def __init__(self, tensor: Tensor, streams: _Streams | None, earlier: "weakref.ref[_Moved] | None") -> None:
        self._device, self._streams, self._earlier = tensor.device, streams, earlier
        self._back: Tensor | None = None
        self._left: torch.cuda.Event | None = None
        self._arrived: torch.cuda.Event | None = None
        if streams is None:
            self._host = tensor.detach().clone(memory_format=torch.preserve_format)
            return
        self._host = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, pin_memory=True)
        streams.leaving.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(streams.leaving):
            self._host.copy_(tensor.detach(), non_blocking=True)
            self._left = streams.leaving.record_event()
        tensor.record_stream(streams.leaving)

    def fetch(self) -> None:
        """Begin to copy it back, once."""
        if self._back is not None:
            return
        if self._streams is None:
            self._back = self._host
            return
        assert self._left is not None, "a tensor of a GPU left on a stream"
        arriving = self._streams.arriving
        arriving.wait_event(self._left)
        with torch.cuda.stream(arriving):
            self._back = torch.empty_strided(
                self._host.size(), self._host.stride(), dtype=self._host.dtype, device=self._device
            )
            self._back.copy_(self._host, non_blocking=True)
            self._arrived = arriving.record_event()

    def take(self) -> Tensor:
        """It, when the current stream needs it."""
        self.fetch()
        assert self._back is not None, "it was fetched"
        if self._arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._arrived)
            self._back.record_stream(current)
        return self._back

    def fetch_earlier(self) -> None:
        """Begin to copy back what was saved before it and still waits."""
        size, moved = 0, self._before()
        while moved is not None and size < _AHEAD:
            moved.fetch()
            size += moved._host.nbytes
            moved = moved._before()

    def _before(self) -> "_Moved | None":
        return None if self._earlier is None else self._earlier()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill a range of memory, each once."""
    extent = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.size(), strict=True)):
        if size != 1 and stride != extent:
            return False
        extent *= size
    return extent > 0
