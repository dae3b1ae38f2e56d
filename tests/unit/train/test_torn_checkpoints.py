"""A checkpoint that is torn is refused in one short sentence with a remedy, and a complete one is never half gone."""

import io
import shutil
from pathlib import Path

import pytest
import torch

from counterpoint.errors import CheckpointError
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train import checkpoint
from counterpoint.train.checkpoint import StoredBlock, list_checkpoints, read_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of one tensor, written by one process."""
    from torch.distributed.checkpoint.state_dict_saver import save

    folder = tmp_path / "checkpoints" / "step-00000001"
    planner = checkpoint._BlockSavePlanner(flatten_state_dict=False)
    with pytest.warns(UserWarning, match="single process"):
        save({"weight": _block()}, checkpoint_id=folder, planner=planner, no_dist=True)
    return folder


def _block() -> StoredBlock:
    return StoredBlock(whole_block("weight", (3, 2)), torch.ones(3, 2))


def _refused(folder: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        read_tensors(folder, {"weight": _block()}, None)
    words = str(refused.value)
    assert len(words.splitlines()) == 1
    assert len(words) < 500
    assert "by removing the folder, or start anew with checkpoint.resume=none" in words


def test_a_whole_checkpoint_is_read(folder: Path) -> None:
    read_tensors(folder, {"weight": _block()}, None)


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


def test_a_checkpoint_loses_its_name_before_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder.parents[1]
    names_at_removal: list[list[int]] = []
    remove = shutil.rmtree

    def watched(path: Path, ignore_errors: bool = False) -> None:
        names_at_removal.append(list_checkpoints(run) if not ignore_errors else [])
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    checkpoint._remove(folder, checkpoint._partial(folder))
    assert names_at_removal == [[], []]
    assert list(folder.parent.iterdir()) == []
