"""The content of the files of a dataset."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from counterpoint.data.prepare.roots import Roots
from counterpoint.data.text.chat import File, Medium
from counterpoint.errors import DataError
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import LARGEST_LIMIT
from counterpoint.sources.prepared.part import Encoded, show_extent
from counterpoint.sources.prepared.row_groups import RowGroups
from counterpoint.sources.prepared.stored import Stored
from counterpoint.sources.prepared.stores import FILE, FOLDER, PARQUET, Location


def encoded(position: int, medium: Medium, roots: Roots, *, is_copied: bool) -> Encoded:
    """The item before a token, with the bytes of its files; raises DataError naming the file.

    Unless it `is_copied`, an index refers to the files where they lie; it cannot if they are given inline, or if those
    of a video lie apart from one another in larger files.
    """
    assert bool(medium.picks) == medium.is_video, "frames of a video are chosen before it is laid out"
    files = read_files(medium)
    if len(files) > 1:
        _check_sizes(medium, files)
    places = [_place(file, roots) for file in medium.files]
    location = None if is_copied else _common([place for place, _name in places], files)
    names = tuple(name for _place, name in places)
    extent = medium.size if medium.is_video else None
    return Encoded(
        position, files[0], medium.kind, tuple(files[1:]), names, location, medium.picks, extent, medium.whole
    )


def _place(file: File, roots: Roots) -> tuple[Location | None, str]:
    """Where a file lies, None if it has to be copied, and its name there."""
    if isinstance(file, bytes):
        return None, called(file)
    if isinstance(file, Stored):
        kind = FILE if file.group < 0 else PARQUET
        return Location(kind, file.file, file.offset, file.group, file.column), file.name
    root = roots.root_of(file)
    return (None, file.name) if root is None else (Location(FOLDER, root), file.relative_to(root).as_posix())


def _common(places: Sequence[Location | None], files: Sequence[bytes]) -> Location | None:
    """The one place of all files of an item: their folder, or the first one's if each begins where the last ends."""
    first = places[0]
    if first is None or first.kind == FOLDER or len(files) == 1:
        return first if all(place == first for place in places) else None
    offsets = accumulate((len(data) for data in files), initial=first.offset)
    expected = [first._replace(offset=offset) for offset, _data in zip(offsets, files, strict=False)]
    return first if first.kind == FILE and list(places) == expected else None


def read_files(medium: Medium) -> list[bytes]:
    """The encoded files of a medium; raises DataError naming one that cannot be read."""
    if medium.data is not None:
        return [medium.data]
    return [file if isinstance(file, bytes) else _read(file) for file in medium.files]


def called(file: File) -> str:
    """The name of a file in messages."""
    return "given inline" if isinstance(file, bytes) else str(file)


def _read(file: Path | Stored) -> bytes:
    if isinstance(file, Stored) and file.data is not None:
        return file.data
    if isinstance(file, Stored) and file.group >= 0:
        return RowGroups(0, lambda _count: None).cell(file.file, file.group, file.column, file.offset)
    path = file.file if isinstance(file, Stored) else file
    try:
        if not isinstance(file, Stored):
            return path.read_bytes()
        with path.open("rb") as opened:
            opened.seek(file.offset)
            return opened.read(file.length)
    except OSError as error:
        raise DataError(f"file {path} cannot be read ({error.strerror}); correct its permissions.") from error


def _check_sizes(medium: Medium, files: Iterable[bytes]) -> None:
    """Raise DataError, by name, for a picture of a video that is unreadable or not of the first one's size."""
    first = None
    for name, data in zip(medium.files, files, strict=True):
        try:
            extent = MODALITIES[medium.kind].extent(data, LARGEST_LIMIT)
        except DataError as error:
            raise DataError(f"picture {called(name)}: {error}") from error
        first = first or extent
        if extent != first:
            raise DataError(
                f"picture {called(name)} is {show_extent(extent)} pixels, but the first of its video, "
                f"{called(medium.files[0])}, is {show_extent(first)}; give all pictures of a video one size."
            )
