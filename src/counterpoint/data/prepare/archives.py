"""Tars and zips in which records name files, which are read where they lie."""

import struct
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from counterpoint.data.prepare.readers.json_text import unreadable
from counterpoint.data.prepare.readers.tar import members
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

SUFFIXES = (".tar", ".zip")
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"


@final
@dataclass(frozen=True)
class Archive:
    """A tar, or a zip whose files are not compressed."""

    file: Path

    def find(self, name: str) -> Stored | None:
        """The file of a name, if it is there; raises DataError for an archive that cannot be read, and for a compressed
        file."""
        place = self._places.get(name.removeprefix("./"))
        if place is None:
            return None
        offset, length = place
        if offset < 0:
            raise DataError(
                f"{name} is compressed in {self.file}, so it cannot be read where it lies; unpack the archive: "
                f"unzip {self.file} -d {self.file.with_suffix('')}"
            )
        return Stored(self.file, offset, length, name=name)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """First byte and length of each file by name; the first byte of a compressed one is -1."""
        if self.file.suffix.lower() == ".tar":
            return {part.name.removeprefix("./"): (part.begin, part.length) for part in members(self.file, 0, None)}
        try:
            size = self.file.stat().st_size
            with zipfile.ZipFile(self.file) as archive, self.file.open("rb") as opened:
                places = {}
                for info in archive.infolist():
                    begin = -1
                    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                        opened.seek(info.header_offset)
                        magic, name, extra = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
                        begin = info.header_offset + _LOCAL_HEADER.size + name + extra
                        if magic != _LOCAL_MAGIC or begin + info.file_size > size:
                            raise DataError(f"{self.file}: is damaged at {info.filename!r}; fetch the file again.")
                    if not info.is_dir():
                        places[info.filename] = (begin, info.file_size)
                return places
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError) as error:
            raise DataError(f"{self.file}: is no zip that can be read ({str(error)[:200]}); fetch it again.") from None
        except OSError as error:
            raise unreadable(self.file, error) from error
