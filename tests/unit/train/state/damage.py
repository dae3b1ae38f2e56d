"""What can happen to the files of a checkpoint, by kind, at places drawn from a seed."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

Change = Callable[[bytes, random.Random], bytes]

_RUN_BYTES = 48


@dataclass(frozen=True)
class Damage:
    """One change of one file of a checkpoint that is named after its step."""

    kind: str
    file: str
    apply: Callable[[Path], None]

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}"


def _flip(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def _zero(data: bytes, draw: random.Random) -> bytes:
    place = draw.choice([at for at, value in enumerate(data) if value])
    return data[:place] + bytes(len(data[place : place + _RUN_BYTES])) + data[place + _RUN_BYTES :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _lengthen(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randrange(1, _RUN_BYTES))


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(len(data))


CHANGES: dict[str, Change] = {
    "a bit flipped": _flip,
    "a range set to zero": _zero,
    "truncated": _cut,
    "longer": _lengthen,
    "junk of its size": _overwrite,
}


def damages(files: list[str], other: Path, seed: int, rounds: int) -> Iterator[Damage]:
    """All kinds of change of all files, `rounds` times, and once each what needs no draw.

    `other` is a checkpoint of the same model at another step.
    """
    for number in range(rounds):
        for file in files:
            for kind, change in CHANGES.items():
                yield Damage(kind, file, _changing(file, change, random.Random(f"{seed} {number} {file} {kind}")))
    for file in files:
        yield Damage("missing", file, _on(file, Path.unlink))
        yield Damage("from another step", file, _on(file, partial(_copy, other / file)))
        yield Damage("a folder in its place", file, _on(file, _folder))
    for file in (file for file in files if file.endswith(".distcp")):
        yield Damage("two blocks exchanged", file, _on(file, _exchange_blocks))
    first, second = (file for file in files if file.endswith(".distcp"))
    yield Damage("exchanged with the other", first, lambda folder: _exchange(folder / first, folder / second))
    yield Damage("all other files from another step", first, lambda folder: _keep_one(folder, other, first))


def _on(file: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A change of one file of whichever folder."""
    return lambda folder: change(folder / file)


def _changing(file: str, change: Change, draw: random.Random) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(change(data, draw))
        assert (folder / file).read_bytes() != data

    return apply


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _exchange(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _exchange_blocks(file: Path) -> None:
    """The first and the last of three blocks, all of one length."""
    data, length = file.read_bytes(), file.stat().st_size // 3
    file.write_bytes(data[2 * length :] + data[length : 2 * length] + data[:length])


def _keep_one(folder: Path, other: Path, kept: str) -> None:
    for file in other.iterdir():
        if file.name != kept:
            _copy(file, folder / file.name)
