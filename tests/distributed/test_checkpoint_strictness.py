"""A checkpoint of another model is refused on every rank, whichever rank is the one that notices."""

from pathlib import Path

import pytest
import torch

from counterpoint.errors import CheckpointError
from counterpoint.execute.groups import make_groups
from counterpoint.execute.tree import Tree
from counterpoint.parallelize.blocks import Block, Sharding, block_of
from counterpoint.train.state.checkpoint import TrainingState, checkpoint_folder, open_checkpoint, read_tensors
from counterpoint.train.state.stored_block import StoredBlock
from counterpoint.train.state.writer import CheckpointWriter
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

RANKS = (0, 1, 2)
ROWS = 7


@pytest.fixture(scope="module")
def run(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose only checkpoint holds `weight`, seven rows over three ranks."""
    folder = tmp_path_factory.mktemp("strictness")
    pool.run(_write_task, folder)
    return folder


@pytest.mark.parametrize(
    ("keys", "rows", "words"),
    [
        ({0: ("weight", "more"), 1: ("weight",), 2: ("weight",)}, ROWS, "1 keys are missing (first 'more')"),
        ({0: ("weight",), 1: ("weight",), 2: ("weight", "more")}, ROWS, "1 keys are missing (first 'more')"),
        ({0: (), 1: (), 2: ()}, ROWS, "1 are unknown (first 'weight')"),
        ({0: ("weight",), 1: ("weight",), 2: ("weight",)}, ROWS + 2, "has the shape (7, 2), expected (9, 2)"),
    ],
    ids=["missing_on_first_rank", "missing_on_last_rank", "unknown", "other_shape"],
)
def test_every_rank_refuses(pool: Pool, run: Path, keys: dict[int, tuple[str, ...]], rows: int, words: str) -> None:
    messages = pool.run(_read_task, run, keys, rows)
    assert len(messages) == len(RANKS)
    assert [message for message in messages if words not in message] == []


def test_a_key_that_only_some_ranks_hold_is_no_fault(pool: Pool, run: Path) -> None:
    """A rank leaves out a parameter of which it holds no element, so keys are compared over all ranks together."""
    assert pool.run(_read_task, run, {0: ("weight",), 1: (), 2: ("weight",)}, ROWS) == ["", "", ""]


def _block(rank: int, rows: int) -> Block:
    return block_of("weight", Sharding((rows, 2), "shard"), 0, 1, rank, len(RANKS))


def _values(block: Block) -> torch.Tensor:
    whole = torch.arange(2.0 * block.global_shape[0], dtype=torch.float64).view(-1, 2)
    return whole[block.global_slices].clone()


def _storage(member: Member) -> Tree | None:
    return make_groups(member.world, (), RANKS, member.cache).storage


def _write_task(member: Member, run: Path) -> None:
    tree = _storage(member)
    if tree is None:
        return
    block = _block(member.world.rank, ROWS)
    writer = CheckpointWriter(run, tree, member.world.rank == RANKS[0], keep_last=1, asynchronous=False)
    writer.write({"weight": StoredBlock(block, _values(block))}, TrainingState(seed=0, data_step=1, optimizer_step=1))


def _read_task(member: Member, run: Path, keys: dict[int, tuple[str, ...]], rows: int) -> list[str] | None:
    """The refusal of every rank, empty where the values were read and are right."""
    tree = _storage(member)
    if tree is None:
        return None
    block = _block(member.world.rank, rows)
    tensor = torch.zeros(block.shape, dtype=torch.float64)
    tensors = {key: StoredBlock(block, tensor) for key in keys[member.world.rank]}
    message = ""
    try:
        read_tensors(open_checkpoint(checkpoint_folder(run, 1)), tensors, tree)
    except CheckpointError as error:
        message = str(error)
    if not message and tensors:
        assert torch.equal(tensor, _values(block))
    return tree.gather(message)
