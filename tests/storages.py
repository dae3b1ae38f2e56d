"""The bytes of the tensors of this process: storages that are alive, as operations make them."""

from typing import Any, final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@final
class Storages(TorchDispatchMode):
    """Counts the bytes of all storages that operations return and that are still alive.

    What an operation frees before it returns is not seen, nor are results of operations that ran before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0
        self.peak, self.at, self.action = 0, "", ""

    def __torch_dispatch__(self, function: Any, _types: Any, given: Any = (), named: Any = None) -> Any:
        made = function(*given, **(named or {}))
        for tensor in tree_leaves(made):
            # A distributed tensor is not a storage, but has one among its parts.
            if isinstance(tensor, Tensor) and not isinstance(tensor, DTensor) and tensor.device.type == "cpu":
                self._note(tensor)
        return made

    def bytes(self) -> int:
        """Those that are alive now; FSDP2 gives storages of gathered parameters back without an operation."""
        for key, (weak, _size) in list(self._alive.items()):
            storage: torch.UntypedStorage | None = torch.UntypedStorage._new_with_weak_ptr(weak.cdata)
            if storage is None:
                del self._alive[key]
            else:
                self._alive[key] = weak, storage.nbytes()
        self._bytes = sum(size for _weak, size in self._alive.values())
        return self._bytes

    def restart(self) -> None:
        """Look for the peak from now on."""
        self.peak = 0

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            self._bytes -= self._alive[key][1]
        self._alive[key] = StorageWeakRef(storage), size
        self._bytes += size
        if self._bytes > self.peak and self.bytes() > self.peak:
            self.peak, self.at = self._bytes, self.action
