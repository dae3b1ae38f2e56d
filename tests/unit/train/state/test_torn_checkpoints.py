"""A checkpoint of an older version, without a manifest, is read; a torn one is refused in one short sentence."""

import io
import json
from pathlib import Path

import pytest
import torch

from counterpoint.errors import DamagedCheckpointError
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train.state.checkpoint import STATE_FILE, open_checkpoint, read_tensors, unverified
from counterpoint.train.state.stored_block import StoredBlock
from tests.unit.train.state.checkpoints import write_older

STATE = {"seed": 0, "data_step": 1, "optimizer_step": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of one tensor, written by one process."""
    folder = tmp_path / "checkpoints" / "step-00000001"
    write_older(folder, {"weight": torch.ones(3, 2)}, STATE)
    return folder


def _block() -> StoredBlock:
    return StoredBlock(whole_block("weight", (3, 2)), torch.ones(3, 2))


def _refused(folder: Path) -> None:
    with pytest.raises(DamagedCheckpointError) as refused:
        read_tensors(open_checkpoint(folder), {"weight": _block()}, None)
    words = str(refused.value)
    assert len(words.splitlines()) == 1
    assert len(words) < 500
    assert "by removing the folder, or start anew with checkpoint.resume=none" in words


def test_a_whole_checkpoint_is_read(folder: Path) -> None:
    zeros = torch.zeros(3, 2)
    read_tensors(open_checkpoint(folder), {"weight": StoredBlock(whole_block("weight", (3, 2)), zeros)}, None)
    assert torch.equal(zeros, torch.ones(3, 2))
    assert "an older version wrote it, without checksums" in (unverified(folder) or "")


def test_torch_wrote_checksums_of_values_even_then(folder: Path) -> None:
    """Flipped bits of values, which torch loads without a look at the archive's own checksums."""
    (file,) = folder.glob("*.distcp")
    data = bytearray(file.read_bytes())
    data[data.index(torch.ones(1).numpy().tobytes())] ^= 1
    file.write_bytes(data)
    _refused(folder)


def test_a_lost_manifest_does_not_make_an_older_checkpoint(folder: Path) -> None:
    (folder / STATE_FILE).write_text(json.dumps(STATE | {"manifest": True}))
    _refused(folder)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04cnowhere\nnothing\n.", b"\x80\x04]."])
def test_torn_metadata(folder: Path, content: bytes) -> None:
    (folder / ".metadata").write_bytes(content)
    _refused(folder)


@pytest.mark.parametrize("content", [b"", b"junk" * 400])
def test_torn_tensors(folder: Path, content: bytes) -> None:
    (file,) = folder.glob("*.distcp")
    file.write_bytes(content)
    _refused(folder)


def test_another_object_than_a_tensor(folder: Path) -> None:
    """torch's advice on loading what it does not trust fills a screen."""
    (file,) = folder.glob("*.distcp")
    data = io.BytesIO()
    torch.save(Path, data)
    file.write_bytes(data.getvalue().ljust(file.stat().st_size, b"\0"))
    _refused(folder)
