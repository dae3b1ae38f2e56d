"""Which files of a folder are a dataset, and which split each is: as people put them, and as the hub and `datasets` do.

train.jsonl                               the split `train`
data/train-00000-of-00010.parquet         the split `train`
ai2d(gpt4v)/train-00000-of-00001.parquet  the split `train` of the subset `ai2d(gpt4v)`
train/data-00000-of-00001.arrow           the split `train`, named by dataset_dict.json
0001.tar, val/0001.tar                    the splits `train` and `val`
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, final

from counterpoint.data.prepare.readers import READERS
from counterpoint.data.prepare.readers.energon import energon_splits
from counterpoint.data.prepare.readers.json_text import unreadable
from counterpoint.data.text.shown import show
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError
from counterpoint.section.problem import nearest
from counterpoint.sources.prepared.index import MANIFEST_NAME

TRAIN = "train"
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_DATA = "data"
_FOLDER, _TAR, _LINES, _ARRAY = "folder", "tar", "json_lines", "json_array"
_JSON = ".json"
_DICTIONARY, _STATE = "dataset_dict.json", "state.json"
_ABOUT = (_DICTIONARY, _STATE, "dataset_info.json", "dataset_infos.json")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_UNREAD = (".csv", ".tsv", ".gz", ".zst", ".bz2", ".xz", ".npz", ".h5", ".mds")
_ROWS = (".jsonl", ".parquet", ".arrow")
_PIECE = re.compile(r"(?P<split>.+?)-\d{5,}-of-\d{5,}(-[0-9a-f]+)?")
_NUMBERED = re.compile(r"(?P<name>.*?)[-_.]?\d+")


class DataFile(NamedTuple):
    """A file of rows, or a folder of images, with the key of its reader and its split."""

    file: Path
    reader: str
    split: str


@final
@dataclass(frozen=True)
class DatasetFiles:
    """The files of a dataset; `others` are not read, each with the reason; `roots` are where records name files: the
    folders of records, and tars beside these."""

    files: tuple[DataFile, ...]
    others: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, source: Path, subsets: Sequence[str] = ()) -> "DatasetFiles":
        """The layout of a folder, or of one file; raises DataError if there is nothing to read, or a choice to make."""
        found = _Found()
        twice = next((name for number, name in enumerate(subsets) if name in subsets[:number]), None)
        if twice is not None:
            raise DataError(f"--subset {show(twice)}: is given twice, so its samples would be; leave one out.")
        if source.is_file():
            if subsets:
                raise DataError(f"--subset {subsets[0]}: means nothing for one file, {source}; leave it out.")
            found.files.append(DataFile(source, _reader_of_file(source), _split(source, None)))
            return found.layout(source.parent)
        try:
            for folder in [_subset(source, name) for name in subsets] or [source]:
                if not found.collect(folder, None) and not found.collect_only_subset(folder):
                    _refuse(source, found)
        except OSError as error:
            raise unreadable(Path(error.filename or source), error) from error
        return found.layout(source)


@dataclass
class _Found:
    """What was found so far."""

    files: list[DataFile] = field(default_factory=list)
    tars: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    packed: list[Path] = field(default_factory=list)

    def layout(self, source: Path) -> DatasetFiles:
        for file in self.files:
            try:
                check_text(file.split)
            except DataError as error:
                raise DataError(f"{file.file!r}: {error}") from None
        folders = dict.fromkeys(one.file.parent for one in self.files if one.reader in (_LINES, _ARRAY))
        others = [*self.others, *(f"{file}: not read, since it is packed" for file in self.packed)]
        roots = (*(folder for folder in folders if folder != source), *self.tars)
        return DatasetFiles(tuple(self.files), tuple(others), roots)

    def collect(self, folder: Path, split: str | None) -> bool:
        """Add the files of a folder, or of its splits; False if there are none."""
        if _is_saved(folder):
            self._saved(folder, split)
            return True
        if (folder / _DICTIONARY).is_file():
            names = _json(folder / _DICTIONARY).get("splits")
            if not isinstance(names, list) or not names or not all(_is_name(name) for name in names):
                raise DataError(f"{folder / _DICTIONARY}: expected 'splits' to be a list of names, got {show(names)}.")
            for name in names:
                if not self.collect(folder / name, name):
                    raise DataError(f"{folder / name}: is missing, or has no Arrow file; save the dataset again.")
            return True
        if self._own(folder, split):
            return True
        inner = [below for below in _folders(folder) if _split_word(below.name) is not None or below.name == _DATA]
        found = [self.collect(below, split if below.name == _DATA else below.name) for below in inner]
        if any(found):
            return True
        if inner and split is None:
            images = [below for below in inner if below.name != _DATA and READERS[_FOLDER].takes(below)]
            self.files += [DataFile(below, _FOLDER, below.name) for below in images]
            return bool(images)
        return False

    def collect_only_subset(self, folder: Path) -> bool:
        """Add the files of the only subset of a folder, or its images; raises DataError if there are several."""
        subsets = [below for below in _folders(folder) if _Found().collect(below, None)]
        if len(subsets) > 1:
            names = [below.name for below in subsets]
            shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            raise DataError(f"{folder}: holds {len(names)} subsets; choose with --subset NAME, repeatable: {shown}.")
        if subsets:
            return self.collect(subsets[0], None)
        if READERS[_FOLDER].takes(folder):
            self.files.append(DataFile(folder, _FOLDER, TRAIN))
            return True
        return False

    def _own(self, folder: Path, split: str | None) -> bool:
        """Add the files of rows that lie in a folder itself."""
        named = energon_splits(folder)
        found: list[DataFile] = []
        packed, others = [], []
        for file in _files(folder):
            reader = None if file.name in _ABOUT else _reader_of(file)
            if reader is not None and (named is None or reader != _TAR):
                found.append(DataFile(file, reader, _split(file, split)))
            elif reader is not None and named is not None and file.name in named:
                found.append(DataFile(file, reader, named[file.name]))
            elif file.name.lower().endswith((*_PACKED, ".zip")):
                packed.append(file)
            elif file.name.lower().endswith(_UNREAD):
                others.append(f"{file}: not read, expected JSON lines, parquet, Arrow or tar, not packed")
            elif file.suffix.lower() == _JSON and file.name not in _ABOUT:
                others.append(f"{file}: not read, since it holds no array of records")
        if any(one.reader in (_LINES, _ARRAY) for one in found):
            self.tars += [one.file for one in found if one.reader == _TAR]
            found = [one for one in found if one.reader != _TAR]
        self.files, self.packed = self.files + found, self.packed + packed
        if found:
            self.others += [*others, *_beside(folder)]
        return bool(found)

    def _saved(self, folder: Path, split: str | None) -> None:
        """Add the Arrow files of a folder that `save_to_disk` wrote, in the order in which it names them."""
        state = _json(folder / _STATE)
        files = state.get("_data_files")
        names = [file.get("filename") if isinstance(file, dict) else None for file in files or ()]
        if not names or not all(_is_name(name) for name in names):
            raise DataError(f"{folder / _STATE}: expected '_data_files' with file names, got {show(files)}.")
        if split is None:
            split = str(state.get("_split") or TRAIN)
        for name in names:
            if not (folder / str(name)).is_file():
                raise DataError(f"{folder / str(name)}: is missing, though {_STATE} names it; save the dataset again.")
            self.files.append(DataFile(folder / str(name), "arrow", split))


def _refuse(source: Path, found: _Found) -> None:
    """Raise DataError for a folder without a file that can be read."""
    if found.packed:
        raise DataError(_packed(found.packed[0]))
    raise DataError(
        f"{source}: no *.jsonl file in it, nor a *.json with an array, *.parquet, *.arrow, *.tar, or images with "
        "texts; expected records of conversations, one JSON object a line, or one of these."
    )


def _packed(file: Path) -> str:
    folder = file.name.partition(".")[0] or "unpacked"
    target, packed = quote(str(file.parent / folder)), quote(str(file))
    command = f"unzip {packed} -d" if file.suffix.lower() == ".zip" else f"tar -xf {packed} -C"
    return (
        f"{file}: is packed, so nothing in it can be read where it lies; unpack it and prepare the folder: "
        f"mkdir -p {target} && {command} {target}"
    )


def _reader_of_file(file: Path) -> str:
    """The reader of a file that is a source; raises DataError for a kind that none reads."""
    if file.name.lower().endswith((*_PACKED, ".zip")):
        raise DataError(_packed(file))
    reader = _reader_of(file)
    if reader is None and file.suffix.lower() in _UNREAD:
        raise DataError(f"{file}: files *{file.suffix} are not read, expected JSON lines, parquet, Arrow or tar.")
    return reader or (_ARRAY if file.suffix.lower() == _JSON else _LINES)


def _reader_of(file: Path) -> str | None:
    return next((name for name, reader in READERS.items() if reader.takes(file)), None)


def _subset(source: Path, name: str) -> Path:
    """The folder of a subset, whatever signs its name has; raises DataError, with the nearest name."""
    for parent in (source, source / _DATA):
        known = [below.name for below in _folders(parent)] if parent.is_dir() else []
        if name in known:
            return parent / name
    names = [below.name for below in _folders(source)]
    alike = nearest(name, names)
    hint = f"did you mean {alike}?" if alike is not None else f"folders are {', '.join(names[:20]) or 'none'}."
    raise DataError(f"--subset {show(name)}: {source} has no such folder; {hint}")


def _split(file: Path, given: str | None) -> str:
    """The split of a file by its name, where its folder does not say one."""
    piece = _PIECE.fullmatch(file.stem)
    if piece is not None:
        name = piece["split"]
        return given if given is not None and name not in _SPLITS else name
    if given is not None:
        return given
    if file.suffix.lower() in (_JSON, ".jsonl"):
        return file.stem
    numbered = _NUMBERED.fullmatch(file.stem)
    split = _split_word(numbered["name"] if numbered else file.stem)
    if split is not None:
        return split
    return TRAIN if numbered else file.stem


def _split_word(name: str) -> str | None:
    """The word in a name that is a split's."""
    return next((word for word in re.split(r"[-_.\s]", name) if word.lower() in _SPLITS), None)


def _is_saved(folder: Path) -> bool:
    return (folder / _STATE).is_file() and any(folder.glob("*.arrow"))


def _is_name(name: object) -> bool:
    """Whether it is the name of a file in a folder, not a path that leads out of it."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _folders(folder: Path) -> list[Path]:
    return [below for below in _below(folder) if below.is_dir() and not below.name.startswith(".")]


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in _below(folder) if file.is_file() and not file.name.startswith("."))


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def _beside(folder: Path) -> Iterator[str]:
    """Folders with files of rows below a folder that has some itself; by names alone, since media may lie there."""
    for below in _folders(folder):
        # A folder that was prepared here is no source.
        places = (below, *(_folders(below) if below.name == _DATA else ()))
        try:
            names = {one.name for place in places for one in place.iterdir()}
        except OSError:
            continue
        if MANIFEST_NAME not in names and any(name.endswith(_ROWS) for name in names):
            yield f"{below}: not read, since files of records lie in {folder} itself; prepare it apart"


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); fetch or write it again.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected keys with values, got {show(values)}.")
    return values
