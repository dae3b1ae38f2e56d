"""Pieces of a checkpoint: every value that was written, none of a damaged block, and no more than is asked."""

import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch

from counterpoint.errors import DamagedCheckpointError
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train.state.checkpoint import checkpoint_folder, open_checkpoint
from counterpoint.train.state.pieces import PieceReader
from counterpoint.train.state.stored_block import StoredBlock
from tests.unit.train.state.checkpoints import blocks, state_of, write_older, writer

STEP = 5
SHAPES: dict[str, tuple[int, ...]] = {"model/a.embed": (7, 4, 3), "model/a.norm": (5,), "model/a.one": (2, 6, 5)}
VALUES = {
    key: torch.rand(shape, generator=torch.Generator().manual_seed(len(key))) + 1 for key, shape in SHAPES.items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in two files."""
    run = tmp_path_factory.mktemp("run")
    writer(run).write(blocks(VALUES), state_of(STEP))
    return checkpoint_folder(run, STEP)


def _ranges(shape: tuple[int, ...], draw: random.Random) -> tuple[slice, ...]:
    starts = [draw.randrange(size) for size in shape]
    return tuple(slice(start, draw.randint(start + 1, size)) for start, size in zip(starts, shape, strict=True))


def test_random_pieces_are_what_was_written(folder: Path) -> None:
    draw = random.Random(0)
    with closing(PieceReader(open_checkpoint(folder))) as reader:
        for key, shape in SHAPES.items():
            assert torch.equal(reader.read(key, None), VALUES[key])
            for _time in range(40):
                place = _ranges(shape, draw)
                assert torch.equal(reader.read(key, place), VALUES[key][place])


def test_a_block_is_digested_once_and_only_the_rows_asked_for_are_read(folder: Path) -> None:
    reader = PieceReader(open_checkpoint(folder))
    one = (slice(1, 2), slice(2, 4), slice(0, 5))
    reader.read("model/a.one", one)
    digested = reader.verified_bytes
    assert reader.read_bytes == 2 * 5 * 4
    reader.read("model/a.one", one)
    assert (reader.read_bytes, reader.verified_bytes) == (2 * 2 * 5 * 4, digested)
    assert 0 < digested < sum(file.stat().st_size for file in folder.glob("*.distcp"))
    reader.close()


def test_transposed_and_older_ones_are_read(tmp_path: Path) -> None:
    turned = VALUES["model/a.embed"].transpose(0, 2)
    saved = StoredBlock(whole_block("a", (3, 4, 7)), torch.empty_like(turned).copy_(turned))
    writer(tmp_path).write({"model/a.turned": saved}, state_of(STEP))
    place = (slice(1, 3), slice(0, 2), slice(2, 6))
    with closing(PieceReader(open_checkpoint(checkpoint_folder(tmp_path, STEP)))) as reader:
        assert torch.equal(reader.read("model/a.turned", place), turned[place])
    older = tmp_path / "older" / "step-00000005"
    write_older(older, VALUES, {"seed": 0, "data_step": 5, "optimizer_step": 5})
    with closing(PieceReader(open_checkpoint(older))) as reader:
        assert torch.equal(reader.read("model/a.norm", None), VALUES["model/a.norm"])


def _is_refused(folder: Path) -> bool:
    try:
        with closing(PieceReader(open_checkpoint(folder))) as reader:
            found = {key: reader.read(key, None) for key in SHAPES}
    except DamagedCheckpointError as error:
        return len(str(error).splitlines()) == 1
    assert all(torch.equal(found[key], VALUES[key]) for key in SHAPES)
    return False


def test_damage_is_refused(folder: Path, tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(folder, tmp_path / str(i) / folder.name)) for i in range(2)]
    bytes_of_one = bytearray((copies[0] / "__1_0.distcp").read_bytes())
    place = bytes_of_one.find(VALUES["model/a.norm"][-1:].numpy().tobytes())
    bytes_of_one[place] ^= 1
    (copies[0] / "__1_0.distcp").write_bytes(bytes_of_one)
    (copies[1] / "__0_0.distcp").write_bytes((copies[1] / "__0_0.distcp").read_bytes()[:-900])
    assert [_is_refused(copy) for copy in copies] == [True, True]
    assert not _is_refused(folder)
