"""Folders of images, sounds or videos, each beside a text of the same name."""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from counterpoint.data.prepare.readers.json_text import unreadable
from counterpoint.data.prepare.readers.sniff import SUFFIXES
from counterpoint.data.prepare.shapes.shape import TEXT, Columns
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError

SHARD_FILES = 1024
_TEXT = ".txt"


@final
class FolderReader:
    """Reads a folder with a.png and a.txt, and the folders in it; a shard is a range of these by name."""

    is_declared = False

    def takes(self, file: Path) -> bool:
        """Whether it is a folder in which some file has a text."""
        return file.is_dir() and next(self._files(file), None) is not None

    def columns(self, file: Path) -> Columns:
        """The kinds of its files, and text."""
        return {kind: kind for kind in sorted({SUFFIXES[_suffix(one)] for one in self._files(file)})} | {"text": TEXT}

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Ranges of its files with texts; raises DataError if some file has none, or if there is no file."""
        count = sum(1 for _ in self._files(file))
        if not count:
            raise DataError(f"{file}: holds no image or sound, expected some with a .txt of the same name each.")
        return [
            Shard("folder", file, begin, min(begin + SHARD_FILES, count), split, begin)
            for begin in range(0, count, SHARD_FILES)
        ]

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The files of a shard; one without a text is no row that can be read."""
        for number, path in enumerate(self._files(shard.file)):
            if number >= shard.stop:
                break
            if number < shard.begin:
                continue
            yield Row(str(path), _values(path, shard.file))

    def _files(self, folder: Path) -> Iterator[Path]:
        """All files of a known kind, in the order of their paths."""
        try:
            for path in sorted(folder.iterdir()):
                if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                    yield from self._files(path)
                elif _suffix(path) in SUFFIXES and path.is_file():
                    yield path
        except OSError as error:
            raise unreadable(folder, error) from error


def _values(path: Path, folder: Path) -> object:
    text = path.with_suffix(_TEXT)
    try:
        if not all(one.resolve().is_relative_to(folder.resolve()) for one in (path, text)):
            return DataError(f"it leads out of {folder}; put the file itself there.")
        return {SUFFIXES[_suffix(path)]: path, "text": text.read_bytes().decode("utf-8-sig").removesuffix("\n")}
    except FileNotFoundError:
        return DataError(f"there is no {text.name} beside it, expected its caption; add one or remove the file.")
    except RuntimeError:  # What Python before 3.13 raises for a link to itself.
        return DataError(f"it, or {text.name}, is a link that leads to itself; put the file itself there.")
    except OSError as error:
        return unreadable(text, error)
    except UnicodeDecodeError as error:
        return DataError(f"{text.name} is not UTF-8 ({error}); encode it again.")


def _suffix(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")
