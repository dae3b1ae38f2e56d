"""In which folders and archives a record may name files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from counterpoint.data.prepare.addresses import check_rule, names_of
from counterpoint.data.prepare.archives import SUFFIXES, Archive
from counterpoint.data.prepare.inline import decode_base64
from counterpoint.data.text.chat import File
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError, MissingFileError
from counterpoint.sources.prepared.stored import Stored

_INLINE = "data:"
_SHOWN = 100
_OUTSIDE = "outside"
_UNNAMEABLE = (OSError, ValueError, RuntimeError)
"""What pathlib raises for names that no file can have, and for links that lead to themselves."""


@dataclass(frozen=True)
class Roots:
    """The folders in which files may be named: `others` are searched first, then `folder`; a tar or a zip is a folder
    too. `addresses` is the rule by which files that were fetched are called, a key of RULES."""

    folder: Path
    others: tuple[Path, ...] = ()
    addresses: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.addresses)
        for other in self.others:
            if not other.is_dir() and not (other.is_file() and other.suffix.lower() in SUFFIXES):
                raise DataError(
                    f"--images {other}: is no folder, tar or zip, expected one that holds files of records."
                )

    def find(self, name: str, what: str) -> File:
        """The file of a name, or the bytes of a data: URL; raises DataError, also for a file outside of the folders;
        MissingFileError for one that is not there.

        `what` is what the file is called in messages.
        """
        check_text(name)
        if name.startswith(_INLINE):
            return _inline(name, what)
        names: tuple[str, ...] = (name,)
        if "://" in name:
            if self.addresses is None:
                raise DataError(
                    f"{what} {_shortened(name)} is an address, expected a file; fetch it first, and say with "
                    "--addresses how fetched files are called."
                )
            names = names_of(name, self.addresses, what)
        places = [self._look(one, what) for one in names]
        found = next((place for place in places if isinstance(place, Path | Stored)), None)
        if found is not None:
            return found
        if _OUTSIDE in places:
            raise DataError(
                f"{what} {_shortened(name)} leads out of {self.folder}; name the folder that it lies in with --images "
                "if it belongs to the dataset."
            )
        looked = ", ".join(str(root) for root in (*self.others, self.folder))
        raise MissingFileError(f"{what} {_shortened(name)} is missing in {looked}; correct the name or add the file.")

    def _look(self, name: str, what: str) -> Path | Stored | str | None:
        """The file of a name, _OUTSIDE if one leads out of the folders, or None."""
        is_outside = False
        for root in (*self.others, self.folder):
            if root in self._archives:
                stored = self._archives[root].find(name)
                if stored is not None:
                    return stored
                continue
            path = root / name
            try:
                real, is_file = path.resolve(), path.is_file()
            except _UNNAMEABLE as error:
                raise DataError(f"{what} {_shortened(name)} cannot be a file's name ({_reason(error)}).") from None
            if not any(real.is_relative_to(place) for place in self._places):
                is_outside = True
            elif is_file:
                return real if ".." in path.parts or Path(name).is_absolute() else path
        return _OUTSIDE if is_outside else None

    def root_of(self, path: Path) -> Path | None:
        """The folder that a found file lies below, None if it lies below none of them."""
        folders = (*self.others, self.folder, *self._places)
        return next((folder for folder in folders if path.is_relative_to(folder)), None)

    @cached_property
    def _places(self) -> tuple[Path, ...]:
        return tuple(root.resolve() for root in (self.folder, *self.others) if root not in self._archives)

    @cached_property
    def _archives(self) -> dict[Path, Archive]:
        return {root: Archive(root) for root in self.others if not root.is_dir()}


def _inline(name: str, what: str) -> bytes:
    head, comma, content = name.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError(f"{what} {_shortened(name)}: expected data:TYPE;base64,CONTENT; write it so.")
    return decode_base64(content, f"{what} {_shortened(name)}")


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _shortened(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
