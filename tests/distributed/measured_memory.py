"""The bytes of the tensors that a rank has over a step: storages that are alive, as operations make them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.action import Action
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from tests.distributed.spare import is_spare


class Measured(NamedTuple):
    """Bytes that stay between two steps, the most that a step ever has, and the action in which it has that."""

    held: int
    peak: int
    at: str


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
            if isinstance(tensor, Tensor) and tensor.device.type == "cpu":
                self._note(tensor)
        return made

    def bytes(self) -> int:
        """Those that are alive now; FSDP2 gives storages of gathered parameters back without an operation."""
        for key, (weak, _size) in list(self._alive.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(weak.cdata)
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


def measure(member: Member, config: Config) -> list[Measured] | None:
    """What every rank of a config has in the second step, on rank 0; called by all ranks of the pool."""
    if is_spare(member, config):
        return None
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    compute = dtype_of(config.training.precision.compute)
    reader = Reader(plan, member.world.rank, corpus.sources, compute)
    inputs = [reader.read(plan.batch(step, corpus.packs(step))) for step in range(2)]
    with Storages() as storages:

        def note(action: Action) -> None:
            member.observe(action)
            storages.action = str(action)

        engine = Engine(settings_of(config), plan, models, groups, observers=(note,))
        engine.train_step(inputs[0])
        held = storages.bytes()
        storages.restart()
        engine.train_step(inputs[1])
    engine.close()
    found: list[Measured | None] = [None] * config.world.size
    own = Measured(held, storages.peak, storages.at)
    torch.distributed.all_gather_object(found, own, group=groups.control)
    return [one for one in found if one is not None] if member.world.rank == 0 else None
