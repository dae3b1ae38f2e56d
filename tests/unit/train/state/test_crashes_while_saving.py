"""A machine that fails, or a disk that is full, at any instant of saving: what has its final name is whole."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import RunError
from counterpoint.train.state.checkpoint import TrainingState, checkpoint_folder, list_checkpoints, open_checkpoint
from counterpoint.train.state.stored_block import Tensors
from counterpoint.train.state.writer import CheckpointWriter, superfluous
from tests.unit.train.state.checkpoints import SeveralFiles, blocks, read, state_of, values, writer

BEFORE, DURING = 5, 6
CALLS = ("fsync", "rename", "unlink", "rmdir", "mkdir")


class PowerCut(BaseException):
    """Nothing that the process would do next happens."""


class Disk:
    """What the operating system is asked for, and what a failing machine keeps of it: no byte that was not synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
        self.run, self.events = run, list[tuple[str, str]]()
        self.fails: Callable[[int], BaseException | None] = lambda _number: None
        self._synced = {file.stat().st_ino: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        for name in CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def cut(self) -> None:
        """Take away what was never synced; names are kept, which is the worst that a file system may do."""
        for file in self.run.rglob("*"):
            if file.is_file():
                file.write_bytes(self._synced.get(file.stat().st_ino, b""))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            error = self.fails(len(self.events))
            self.events.append((name, self._place(name, arguments)))
            if error is not None:
                raise error
            if name != "fsync":
                return call(*arguments, **named)
            if Path(self.events[-1][1]).is_file():
                self._synced[os.fstat(arguments[0]).st_ino] = Path(self.events[-1][1]).read_bytes()
            return None

        return watched

    def _place(self, name: str, arguments: tuple[Any, ...]) -> str:
        return os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else str(arguments[-1])


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one whole checkpoint."""
    run = tmp_path_factory.mktemp("before") / "run"
    writer(run).write(blocks(values(BEFORE)), state_of(BEFORE))
    return run


def _save(run: Path) -> None:
    writer(run, keep_last=1).write(blocks(values(DURING)), state_of(DURING))


def _whole(run: Path) -> list[int]:
    """The steps that a run could go on from; each must be what was written."""
    for step in list_checkpoints(run):
        opened = open_checkpoint(checkpoint_folder(run, step))
        opened.check_sizes()
        assert opened.state == state_of(step)
        found, truth = read(opened), values(step)
        assert [key for key in truth if not torch.equal(found[key], truth[key])] == []
    return list_checkpoints(run)


def _disks(before: Path, tmp_path: Path) -> Iterator[tuple[int, Disk]]:
    """The same run on a fresh disk, once for each call that saving makes."""
    number = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            run = Path(shutil.copytree(before, tmp_path / f"run-{number}"))
            disk = Disk(patch, run)
            yield number, disk
            if len(disk.events) <= number:
                return
        number += 1


def test_a_power_cut_at_any_instant_leaves_a_whole_checkpoint(before: Path, tmp_path: Path) -> None:
    kept = []
    for number, disk in _disks(before, tmp_path):
        # A dead process makes no further calls.
        disk.fails = partial(_cut_from, number)
        try:
            _save(disk.run)
        except PowerCut:
            disk.cut()
        kept.append(_whole(disk.run))
        if number % 5 == 0:
            made = len(disk.events)
            disk.fails = lambda _number: None
            _save(disk.run)
            assert _names(disk.run) == [f"step-{DURING:08d}"], "a run that goes on leaves nothing in part"
            del disk.events[made:]
    assert kept[0] == [BEFORE]
    assert kept[-1] == [DURING]
    assert all(kept)
    assert len(kept) > 15


def _cut_from(first: int, number: int) -> PowerCut | None:
    return PowerCut() if number >= first else None


def _full_at(only: int, number: int) -> OSError | None:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if number == only else None


def _names(run: Path) -> list[str]:
    return sorted(file.name for file in (run / "checkpoints").iterdir())


def test_a_full_disk_is_said_and_costs_nothing_that_was_there(before: Path, tmp_path: Path) -> None:
    said = []
    for number, disk in _disks(before, tmp_path):
        disk.fails = partial(_full_at, number)
        try:
            _save(disk.run)
        except RunError as error:
            said.append(str(error))
        assert _whole(disk.run)
    assert len(said) > 8
    for words in said:
        assert "No space left on device" in words
        assert len(words.splitlines()) == 1


def test_what_was_written_in_part_is_removed_from_a_full_disk(before: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(before, tmp_path / "run"))

    class Full(CheckpointWriter):
        def _write_blocks(self, tensors: Tensors, storage: Any) -> None:
            """DCP's own collection of what went wrong on which rank."""
            storage.write_data = self._full
            super()._write_blocks(tensors, storage)

        def _full(self, *_arguments: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match=r"could not be written \(rank 0: OSError: .*No space left on device\), earlier"):
        Full(run, None, True, 1, asynchronous=False).write(blocks(values(DURING)), state_of(DURING))
    assert _names(run) == [f"step-{BEFORE:08d}"]


def test_names_are_synced_before_an_older_checkpoint_goes(before: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, Path(shutil.copytree(before, tmp_path / "run")))
        _save(disk.run)
    folder = disk.run / "checkpoints"
    new, old = checkpoint_folder(disk.run, DURING), checkpoint_folder(disk.run, BEFORE)
    places = [
        disk.events.index(event)
        for event in (
            ("fsync", f"{new}.partial"),
            ("rename", str(new)),
            ("fsync", str(folder)),
            ("rename", f"{old}.partial"),
        )
    ]
    assert places == sorted(places)
    synced = {Path(place).name for call, place in disk.events[: places[0]] if call == "fsync"}
    assert synced >= {"__0_0.distcp", "__1_0.distcp", ".metadata", "state.json", "manifest.json"}


def test_training_goes_on_while_its_earlier_values_are_written(tmp_path: Path) -> None:
    class Held(SeveralFiles):
        begins = threading.Event()

        def _write(self, tensors: Tensors, state: TrainingState) -> None:
            self.begins.wait()
            super()._write(tensors, state)

    tensors, saving = values(1), Held(tmp_path, None, True, 1, asynchronous=True)
    saving.write(blocks(tensors), state_of(1))
    for tensor in tensors.values():
        tensor.zero_()
    saving.begins.set()
    saving.finish()
    found, truth = read(open_checkpoint(checkpoint_folder(tmp_path, 1))), values(1)
    assert [key for key in truth if not torch.equal(found[key], truth[key])] == []


@settings(max_examples=60)
@given(st.sets(st.integers(1, 40)), st.data(), st.integers(1, 5))
def test_as_many_whole_ones_are_kept_as_asked(others: set[int], data: st.DataObject, keep_last: int) -> None:
    written = data.draw(st.integers(1, 40))
    steps = others | {written}
    damaged = data.draw(st.sets(st.sampled_from(sorted(steps))))
    removed = superfluous(steps, written, damaged, keep_last)
    whole = {step for step in steps if step <= written and step not in damaged - {written}}
    assert written not in removed
    assert all(step < written for step in removed)
    assert sorted(whole - set(removed)) == sorted(whole)[-keep_last:]
    # A damaged one stays as long as an older one stays that is whole.
    assert {step for step in damaged - {written} if step not in removed} == {
        step for step in damaged - {written} if step > min(whole - set(removed))
    }


def test_damaged_ones_do_not_displace_whole_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        writer(tmp_path).write(blocks(values(step)), state_of(step))
    going_on = writer(tmp_path, keep_last=2)
    going_on.damaged = frozenset({2, 3})
    going_on.write(blocks(values(4)), state_of(4))
    assert list_checkpoints(tmp_path) == [1, 2, 3, 4]
    going_on.write(blocks(values(5)), state_of(5))
    assert list_checkpoints(tmp_path) == [4, 5]


def test_one_that_was_damaged_counts_once_it_is_written_again(tmp_path: Path) -> None:
    for step in (1, 2):
        writer(tmp_path).write(blocks(values(step)), state_of(step))
    going_on = writer(tmp_path, keep_last=2)
    going_on.damaged = frozenset({2})
    for step in (2, 3):
        going_on.write(blocks(values(step)), state_of(step))
    assert list_checkpoints(tmp_path) == [2, 3]
