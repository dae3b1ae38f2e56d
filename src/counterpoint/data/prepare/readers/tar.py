"""Tars as WebDataset and Energon publish them: files with one key are one sample, and lie where the tar has them.

The key of a file is its path up to the first dot of its name; what follows is its part. Text and JSON are read, all
other parts are ranges of bytes of the tar. The keys of a sample's JSON object are columns beside its parts.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, final

from counterpoint.data.prepare.readers.energon import FieldMap
from counterpoint.data.prepare.readers.json_columns import seen_columns
from counterpoint.data.prepare.readers.json_text import decoder, unreadable
from counterpoint.data.prepare.readers.sniff import SUFFIXES
from counterpoint.data.prepare.shapes.shape import Columns, file_keys
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

SHARD_SAMPLES = 1024
LONGEST_TEXT = 64 * 2**20
_SUFFIX = ".tar"
_TEXTS = {"txt": "text", "text": "text", "caption": "caption", "cls": "cls", "transcript": "transcript"}
_BLOCK = 512


class Part(NamedTuple):
    """A file in a tar: its name, the first byte of its header, of its content, and its length."""

    name: str
    header: int
    begin: int
    length: int

    @property
    def key(self) -> str:
        """What the files of one sample share."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def suffix(self) -> str:
        """What follows the key."""
        return self.name.rpartition("/")[2].partition(".")[2]


@final
class TarReader:
    """Reads *.tar; a shard is the bytes of SHARD_SAMPLES samples."""

    is_declared = False

    def takes(self, file: Path) -> bool:
        """Whether the file is named so."""
        return file.suffix.lower() == _SUFFIX

    def columns(self, file: Path) -> Columns:
        """The parts of the first samples, and the keys of their JSON."""
        return seen_columns(self.rows(Shard("tar", file, 0, file.stat().st_size, "")))

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Ranges of whole samples; raises DataError if the tar is cut off, damaged or empty."""
        found: list[Shard] = []
        begin = first = count = 0
        for count, sample in enumerate(_samples(members(file, 0, None)), start=1):
            if count - first > SHARD_SAMPLES:
                found.append(Shard("tar", file, begin, sample[0].header, split, first))
                begin, first = sample[0].header, count - 1
        if not count:
            raise DataError(f"{file}: holds no sample, expected files such as 0001.jpg and 0001.txt; leave it out.")
        return [*found, Shard("tar", file, begin, file.stat().st_size, split, first)]

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The samples of a shard."""
        fields = FieldMap.of(shard.file)
        try:
            with shard.file.open("rb") as opened:
                for sample in _samples(members(shard.file, shard.begin, shard.stop)):
                    key = _printable(sample[0].key)
                    if fields.leaves_out(shard.file, sample[0].key):
                        continue
                    try:
                        values: object = fields.row(_values(shard.file, opened, sample))
                    except DataError as error:
                        values = error
                    yield Row(f"{shard.file}: {key}", values)
        except OSError as error:
            raise unreadable(shard.file, error) from error


def members(file: Path, begin: int, stop: int | None) -> Iterator[Part]:
    """The plain files of a tar from one header to another; raises DataError, also if the tar does not end as one."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            opened.seek(begin)
            with tarfile.open(fileobj=opened, mode="r:", ignore_zeros=False) as tar:
                while (member := tar.next()) is not None and (stop is None or member.offset < stop):
                    # The library keeps all of them.
                    tar.members = []  # type: ignore[attr-defined]
                    if member.offset_data + member.size > size:
                        raise DataError(
                            f"{file}: is cut off: {_printable(member.name)} ends at byte "
                            f"{member.offset_data + member.size} of {size}; fetch the file again."
                        )
                    if member.issparse():
                        raise DataError(f"{file}: {_printable(member.name)} is a sparse file; pack the tar without.")
                    if member.isreg() and not member.name.rpartition("/")[2].startswith((".", "__")):
                        yield Part(member.name, member.offset, member.offset_data, member.size)
                if member is None:
                    _check_end(file, opened, tar.offset, size)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise DataError(f"{file}: is no tar that can be read ({str(error)[:200]}); fetch or pack it again.") from None
    except OSError as error:
        raise unreadable(file, error) from error


def _check_end(file: Path, opened: Any, offset: int, size: int) -> None:
    """Raise DataError if a tar does not end with blocks of zeros where its last member does."""
    opened.seek(min(offset, size))
    is_empty = True
    while block := opened.read(_BLOCK * 2048):
        is_empty = False
        if block.count(0) != len(block):
            raise DataError(
                f"{file}: is damaged or several tars in one near byte {offset}: expected the end of the tar; fetch or "
                "pack it again."
            )
    if is_empty:
        raise DataError(f"{file}: is cut off: it ends at byte {size} without the end of a tar; fetch the file again.")


def _samples(parts: Iterator[Part]) -> Iterator[list[Part]]:
    """Consecutive files with one key."""
    sample: list[Part] = []
    for part in parts:
        if sample and part.key != sample[0].key:
            yield sample
            sample = []
        sample.append(part)
    if sample:
        yield sample


def _values(file: Path, opened: Any, sample: list[Part]) -> dict[str, Any]:
    """The columns of a sample."""
    columns: dict[str, list[Any]] = {}
    objects: dict[str, Any] = {}
    stored: dict[str, Stored] = {}
    seen: set[str] = set()
    for part in sample:
        suffix = part.suffix.lower()
        if suffix in seen:
            raise DataError(f"it has two files .{_printable(suffix)}, expected parts of different names; rename one.")
        seen.add(suffix)
        kind = suffix.rpartition(".")[2]
        if kind in _TEXTS:
            text = _read(opened, part).removesuffix("\n")
            columns.setdefault(_TEXTS[kind], []).append(text)
        elif kind == "json":
            objects[suffix] = _json(_read(opened, part), part)
        else:
            place = Stored(file, part.begin, part.length, name=_printable(part.name))
            stored[part.name.rpartition("/")[2]] = stored[part.suffix] = place
            columns.setdefault(_column(suffix, kind), []).append(place)
    named: set[int] = set()
    values: dict[str, Any] = {}
    for suffix, read in objects.items():
        found = _resolve(read, stored, named)
        if isinstance(found, dict):
            values |= {key: value for key, value in found.items() if key not in values}
        else:
            values[suffix] = found
    for name, held in columns.items():
        rest = [one for one in held if id(one) not in named]
        if len(rest) > 1 and name not in file_keys():
            raise DataError(f"it has {len(rest)} files for '{name}', expected one; leave some out.")
        if len(rest) == 1:
            values[name] = rest[0]
        elif rest:
            values[f"{name}s"] = rest
    return values


def _column(suffix: str, kind: str) -> str:
    """The name of the column of a part: what its suffix begins with, if that is a key, or what its kind is."""
    first = suffix.partition(".")[0]
    if first in file_keys():
        return first
    return "features" if kind == "npy" else SUFFIXES.get(kind, suffix)


def _resolve(value: Any, stored: dict[str, Stored], named: set[int], key: str = "", depth: int = 0) -> Any:
    """JSON in which names of the sample's files, at keys of files, are these files."""
    if depth > 32:
        return value
    if isinstance(value, dict):
        return {name: _resolve(one, stored, named, name, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_resolve(one, stored, named, key, depth + 1) for one in value]
    if isinstance(value, str) and value in stored and key in (*file_keys(), "image_name", "url"):
        named.add(id(stored[value]))
        return stored[value]
    return value


def _read(opened: Any, part: Part) -> str:
    if part.length > LONGEST_TEXT:
        raise DataError(f"{_printable(part.name)} has {part.length} bytes, expected a text of at most {LONGEST_TEXT}.")
    opened.seek(part.begin)
    try:
        return str(opened.read(part.length).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{_printable(part.name)} is not UTF-8 ({error}); encode it again.") from None


def _json(text: str, part: Part) -> Any:
    try:
        return decoder().decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_printable(part.name)} is no JSON ({show(str(error))}); correct it.") from None


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
