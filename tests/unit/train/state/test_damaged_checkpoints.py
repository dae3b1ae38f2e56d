"""Whatever happens to a file of a checkpoint, what it held is not loaded: the checkpoint is refused by name."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from counterpoint.errors import CheckpointError, DamagedCheckpointError
from counterpoint.train.state.checkpoint import checkpoint_folder, open_checkpoint
from counterpoint.train.state.manifest import MANIFEST_FILE, Manifest, read_manifest
from tests.unit.train.state.checkpoints import SHAPES, blocks, read, state_of, values, writer
from tests.unit.train.state.damage import Damage, damages

STEP, OTHER = 5, 6
FILES = [".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json", "state.json"]
READERS = 3
SWEEP_ROUNDS = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of two steps of the same shapes."""
    run = tmp_path_factory.mktemp("run")
    saving = writer(run)
    for step in (STEP, OTHER):
        saving.write(blocks(values(step)), state_of(step))
    return run


def _copied(run: Path, into: Path) -> Path:
    return Path(shutil.copytree(checkpoint_folder(run, STEP), into / "checkpoints" / checkpoint_folder(run, STEP).name))


def _fate(folder: Path) -> str:
    """What ranks of another layout make of a checkpoint: `refused` by one of them, or `right` or `WRONG` values."""
    fates = Counter(_fate_on(folder, rank) for rank in range(READERS))
    return max(fates, key=lambda fate: (fate != "right", fate != "refused"))


def _fate_on(folder: Path, rank: int) -> str:
    truth = values(STEP)
    try:
        opened = open_checkpoint(folder)
        found = read(opened, rank, READERS)
        state = opened.state
    except DamagedCheckpointError as error:
        is_a_sentence = str(error).startswith(f"{folder}: ") and len(str(error).splitlines()) == 1
        return "refused" if is_a_sentence else str(error)
    if state != state_of(STEP):
        return "WRONG"
    rows = {key: torch.tensor_split(torch.arange(shape[0]), READERS)[rank] for key, shape in SHAPES.items()}
    return "right" if all(torch.equal(found[key], truth[key][rows[key]]) for key in SHAPES) else "WRONG"


def test_a_whole_one_is_read_by_any_layout(run: Path) -> None:
    assert sorted(file.name for file in checkpoint_folder(run, STEP).iterdir()) == FILES
    assert _fate(checkpoint_folder(run, STEP)) == "right"


def _drawn(run: Path, rounds: int) -> list[Damage]:
    return list(damages(FILES, checkpoint_folder(run, OTHER), seed=1, rounds=rounds))


def test_no_damage_is_silent(run: Path, tmp_path: Path) -> None:
    fates = {str(damage): _after(damage, run, tmp_path / str(n)) for n, damage in enumerate(_drawn(run, rounds=1))}
    assert len(fates) == 44
    assert {damage: fate for damage, fate in fates.items() if fate != "refused"} == {}


@pytest.mark.sweep
def test_two_hundred_damages(run: Path, tmp_path: Path) -> None:
    """Writes the table of docs/checkpoints.md to stdout; `-s` shows it."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for number, damage in enumerate(_drawn(run, SWEEP_ROUNDS)):
        fate = _after(damage, run, tmp_path / str(number))
        kind = "__*_0.distcp" if damage.file.endswith(".distcp") else damage.file
        counts[damage.kind, kind, fate] += 1
    sys.stdout.write(f"{_table(counts)}\n")
    assert sum(counts.values()) == 194
    assert {fate for _damage, _file, fate in counts} == {"refused"}


def _after(damage: Damage, run: Path, folder: Path) -> str:
    copy = _copied(run, folder)
    damage.apply(copy)
    return _fate(copy)


def _table(counts: Counter[tuple[str, str, str]]) -> str:
    files = sorted({file for _damage, file, _fate in counts})
    lines = ["| damage | " + " | ".join(f"`{file}`" for file in files) + " |", "|---|" + "---|" * len(files)]
    for damage in dict.fromkeys(damage for damage, _file, _fate in counts):
        cells = []
        for file in files:
            tried = sum(n for (d, f, _fate), n in counts.items() if (d, f) == (damage, file))
            cells.append(f"{counts[damage, file, 'refused']} of {tried}" if tried else "")
        lines.append(f"| {damage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_a_folder_under_the_name_of_another_step(run: Path, tmp_path: Path) -> None:
    renamed = _copied(run, tmp_path).rename(checkpoint_folder(tmp_path, OTHER))
    with pytest.raises(DamagedCheckpointError, match=f"it is the checkpoint of step {STEP}, which its name denies"):
        open_checkpoint(renamed)
    assert _fate(renamed.rename(tmp_path / "kept for later")) == "right"


def test_what_lies_in_who_reads_is_no_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run must not go on from an older checkpoint because rights are missing today."""
    folder = checkpoint_folder(run, STEP)
    reading = Path.read_bytes

    def denied(path: Path) -> bytes:
        if path.name == ".metadata":
            raise PermissionError(13, os.strerror(13))
        return reading(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(CheckpointError, match=r"\.metadata cannot be read \(Permission denied\)") as refused:
        open_checkpoint(folder)
    assert not isinstance(refused.value, DamagedCheckpointError)


def test_only_what_is_read_must_be_whole(run: Path, tmp_path: Path) -> None:
    """A rank of which no block lies in the damaged file is not the one that refuses."""
    folder = _copied(run, tmp_path)
    (folder / "__1_0.distcp").write_bytes(b"junk")
    assert [_fate_on(folder, rank) for rank in range(READERS)] == ["right", "refused", "refused"]


def test_a_manifest_is_read_only_as_it_was_sealed(tmp_path: Path) -> None:
    manifest = Manifest(step=3, whole={}, blocks={})
    (tmp_path / MANIFEST_FILE).write_bytes(manifest.sealed())
    assert read_manifest(tmp_path, "look") == manifest
    (tmp_path / MANIFEST_FILE).write_bytes(manifest.sealed().replace(b'"step":3', b'"step":4'))
    with pytest.raises(DamagedCheckpointError, match="is not what was written"):
        read_manifest(tmp_path, "look")
