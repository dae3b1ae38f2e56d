"""Saving and loading on all ranks together: DCP's plans, results and errors travel along a tree of small groups.

Planner and storage are DCP's, and so are the files; its own collectives would need one group over all ranks. Every
error of every rank is known to all ranks before any of them goes on.
"""

import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import WriteResult

from counterpoint.execute.tree import Tree
from counterpoint.train.state.storage import DigestingWriter, VerifyingReader
from counterpoint.train.state.stored_block import BlockLoadPlanner, BlockSavePlanner, Tensors

_T = TypeVar("_T")
_R = TypeVar("_R")

Failures = Mapping[int, tuple[BaseException, traceback.StackSummary]]
"""What went wrong, by the number of the rank in its tree."""


@dataclass(frozen=True, slots=True)
class _Tried(Generic[_T]):
    """What a rank made, or what went wrong."""

    made: _T | None
    failures: Failures


def save_together(tensors: Tensors, storage: DigestingWriter, tree: Tree) -> None:
    """Write the blocks of all ranks, each block once, and then the metadata.

    Raises CheckpointException on all ranks if any of them fails.
    """
    planner = BlockSavePlanner(flatten_state_dict=False)
    metadata: Metadata | None = None

    def plan() -> SavePlan:
        planner.set_up_planner(dict(tensors), storage.storage_meta(), tree.is_first)
        storage.set_up_storage_writer(tree.is_first, rank=tree.number, use_collectives=True)
        return storage.prepare_local_plan(planner.create_local_plan())

    def plan_all(plans: list[SavePlan]) -> list[SavePlan]:
        nonlocal metadata
        plans, metadata = planner.create_global_plan(plans)
        return storage.prepare_global_plan(plans)

    def write(own: SavePlan) -> list[WriteResult]:
        return storage.write_data(planner.finish_plan(own), planner).wait()

    def finish(results: list[list[WriteResult]]) -> None:
        assert metadata is not None, "the plan of all ranks comes before"
        storage.finish(metadata, results)

    own = tree.scatter(_on_first("plan", plan, plan_all, tree))
    _on_first("write", lambda: write(own), finish, tree)


def load_together(tensors: Tensors, storage: VerifyingReader, tree: Tree) -> None:
    """Fill the blocks of this rank; raises CheckpointException on all ranks if any of them fails."""
    failures: Failures = {}
    with warnings.catch_warnings():
        # Every rank reads what it needs by itself, which DCP takes for a world of one process.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            load(dict(tensors), storage_reader=storage, planner=BlockLoadPlanner(), no_dist=True)
        except CheckpointException as error:
            ((_number, failure),) = error.failures.items()
            failures = {tree.number: failure}
    failures = tree.merged(failures, _union)
    if failures:
        raise CheckpointException("read", dict(failures))


def _on_first(step: str, act: Callable[[], _T], act_on_all: Callable[[list[_T]], _R], tree: Tree) -> _R | None:
    """Run `act` on every rank and then, on the first one, `act_on_all` on what they made; returns what that made there.

    Raises CheckpointException on all ranks if any call raised.
    """
    gathered = tree.gather(_tried(act, tree.number))
    made: _Tried[_R] = _Tried(None, {})
    if gathered is not None:
        failures = _union([one.failures for one in gathered])
        everything = [cast(_T, one.made) for one in gathered]
        made = _Tried(None, failures) if failures else _tried(lambda: act_on_all(everything), tree.number)
    failures = tree.broadcast(made.failures)
    if failures:
        raise CheckpointException(step, dict(failures))
    return made.made


def _tried(act: Callable[[], _T], number: int) -> _Tried[_T]:
    try:
        return _Tried(act(), {})
    except BaseException as error:  # Whatever it is, ranks that wait for this one must hear of it.
        return _Tried(None, {number: (error, traceback.extract_tb(error.__traceback__))})


def _union(several: list[Failures]) -> Failures:
    return {number: failure for failures in several for number, failure in failures.items()}
