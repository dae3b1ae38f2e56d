"""A file inside of a larger one, read where it lies instead of being copied out."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stored:
    """An encoded file inside of a larger one: where its bytes lie, and what it is called in messages.

    `offset` is its first byte in `file`, and `length` its number of bytes. With a `group`, a row group of a parquet
    file, `offset` is the row inside of the group and `column` the cell: "image", or "images.2" for an element of a
    list. `data` are the bytes, if the reader has them in memory already.
    """

    file: Path
    offset: int
    length: int
    group: int = -1
    column: str = ""
    name: str = ""
    data: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """What it is called in messages."""
        return f"{self.name} in {self.file}" if self.name else f"byte {self.offset} of {self.file}"
